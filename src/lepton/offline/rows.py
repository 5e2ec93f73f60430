"""Prompts as lines of JSON: one object a line, with ``prompt`` or ``messages``.

``id`` names the row in the answers (the number of its line if absent). Fields of SamplingParams
beside them hold for this row: ``{"id": "a", "prompt": "Once", "max_tokens": 20, "seed": 7}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lepton.engine import SamplingParams
from lepton.errors import RequestError

MAX_LINE_BYTES = 16 * 1024 * 1024

_PARAMS = frozenset(field.name for field in fields(SamplingParams)) - {"logprobs", "n"}
_FIELDS = _PARAMS | {"id", "prompt", "messages"}

RowId = str | int


@dataclass(frozen=True)
class Row:
    """One line of the input."""

    number: int
    """Of the line in the file, from 1."""
    id: RowId
    prompt: str | None
    messages: Sequence[Mapping[str, Any]] | None
    changes: Mapping[str, Any]
    """Sampling parameters that differ from those of the run."""

    def params(self, common: SamplingParams) -> SamplingParams:
        """The row's sampling parameters; RequestError when one is out of its range."""
        return replace(common, **self.changes) if self.changes else common


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, in order; blank lines are passed over.

    Raises RequestError that names file and line when a line is not such an object, and when an id
    occurs twice.
    """
    seen: dict[RowId, int] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file, path), start=1):
                if line.strip():
                    row = _row(path, number, line)
                    if row.id in seen:
                        raise RequestError(
                            f"{path} line {number}: the id {row.id!r} is that of line "
                            f"{seen[row.id]} too; ids must differ"
                        )
                    seen[row.id] = number
                    yield row
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error


def _lines(file: Any, path: Path) -> Iterator[bytes]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise RequestError(f"{path} line {number}: longer than {MAX_LINE_BYTES:,} bytes")
        yield line


def _row(path: Path, number: int, line: bytes) -> Row:
    where = f"{path} line {number}"
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{where}: not JSON in UTF-8: {error}") from None
    if not isinstance(content, dict):
        raise RequestError(f"{where}: expected an object with 'prompt' or 'messages'")
    unknown = sorted(content.keys() - _FIELDS)
    if unknown:
        raise RequestError(f"{where}: the field {unknown[0]!r} is not known")
    prompt, messages = content.get("prompt"), content.get("messages")
    if (prompt is None) == (messages is None):
        raise RequestError(f"{where}: give either 'prompt' or 'messages'")
    if prompt is not None and not isinstance(prompt, str):
        raise RequestError(f"{where}: 'prompt' must be a text")
    if messages is not None and not _are_messages(messages):
        raise RequestError(
            f"{where}: 'messages' must be a list of objects with 'role' and 'content', both texts"
        )
    identity = content.get("id", number)
    if isinstance(identity, bool) or not isinstance(identity, (str, int)):
        raise RequestError(f"{where}: 'id' must be a text or a whole number")
    changes = {name: content[name] for name in _PARAMS & content.keys()}
    row = Row(number, identity, prompt, messages, changes)
    try:
        row.params(SamplingParams())
    except (RequestError, TypeError) as error:
        raise RequestError(f"{where}: {error}") from None
    return row


def _are_messages(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(each, dict)
            and isinstance(each.get("role"), str)
            and isinstance(each.get("content"), str)
            for each in value
        )
    )
