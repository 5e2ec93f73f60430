"""Scoring newline-delimited JSON with a trained model, as it arrives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from lepton.data.table import joined_columns
from lepton.errors import DataError
from lepton.training.trained_model import TrainedModel

MAX_LINE_BYTES = 16 << 20
_STREAM_BYTES = 1 << 16


def predict_stream(
    model: TrainedModel,
    source: BinaryIO,
    sink: BinaryIO,
    *,
    text: Sequence[str] = ("text",),
    threshold: float | None = None,
) -> int:
    """Score newline-delimited JSON as it arrives; each line is answered by one line, in order.

    A line is an object with the fields ``text``, of which all but one may be missing, or a string.
    Its answer is the object with what the model says added, or with ``error``; a field of the
    object's own is never written over: what is added is called ``label_``, say, then. Lines that
    arrive together are scored together, and no line waits for the next.

    Returns:
        The number of lines answered.

    Raises:
        DataError: a line is longer than 16 MB.
    """
    answered = 0
    rest = b""
    while True:
        received = os.read(source.fileno(), _STREAM_BYTES)
        lines = (rest + received).split(b"\n")
        rest = lines.pop() if received else b""
        if len(rest) > MAX_LINE_BYTES:
            raise DataError(f"line {answered + len(lines) + 1:,} is longer than 16 MB")
        lines = [line for line in lines if line.strip()]
        if lines:
            sink.writelines(map(json_line, _answers(model, lines, text, threshold)))
            sink.flush()
            answered += len(lines)
        if not received:
            return answered


def json_line(value: dict[str, Any]) -> bytes:
    """A line of JSON in UTF-8; half a surrogate pair is written as it came."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def with_unused(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """``names``, each with as many underscores behind it as set it apart from ``taken``."""
    used = set(taken)
    found = []
    for name in names:
        while name in used:
            name += "_"
        used.add(name)
        found.append(name)
    return found


def _answers(
    model: TrainedModel, lines: Sequence[bytes], names: Sequence[str], threshold: float | None
) -> Iterator[dict[str, Any]]:
    entries = [_entry(line, names) for line in lines]
    texts = [text for text, _ in entries if text is not None]
    predictions = iter(model.predict(texts, threshold=threshold))
    for text, fields in entries:
        if text is None:
            yield fields
        else:
            yield _added(fields, model.describe(next(predictions)))


def _entry(line: bytes, names: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    """The text of a line and all its fields, or None and those with what was wrong."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None, {"error": "not valid JSON"}
    if isinstance(value, str):
        return value, {names[0]: value}
    fields = value if isinstance(value, dict) else {}
    parts = [fields.get(name) for name in names]
    if not any(isinstance(part, str) for part in parts) or not all(
        part is None or isinstance(part, str) for part in parts
    ):
        wanted = " or ".join(map(repr, names))
        return None, _added(fields, {"error": f"not an object with a string {wanted}"})
    return joined_columns(parts) or "", fields


def _added(fields: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    names = with_unused(list(more), list(fields))
    return {**fields, **dict(zip(names, more.values(), strict=True))}
