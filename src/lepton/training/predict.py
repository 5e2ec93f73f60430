"""Scoring files and streams with a trained model, in memory that does not grow with them."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from lepton.data.reading import TableReader
from lepton.data.table import Row
from lepton.errors import ConfigurationError, DataError
from lepton.training.run import read_json, write_json
from lepton.training.trained_model import Prediction, TrainedModel

CHUNK_ROWS = 2048
MAX_LINE_BYTES = 16 << 20
_NOTE_BYTES = 1 << 20
_STREAM_BYTES = 1 << 16
_JSON_LINES = frozenset({".jsonl", ".ndjson"})

RowProgress = Callable[[int], object]
"""Told how many rows are done in all, those of an interrupted attempt included."""


@dataclass(frozen=True)
class Scored:
    """What `predict_file` did."""

    rows: int
    resumed_at: int
    """Rows that an interrupted attempt had done already."""
    unreadable: int
    """Rows of the input that could not be read, and are not in the output."""
    mended: int
    """Rows in another encoding or shape than the others, which are in the output."""


def predict_file(
    model: TrainedModel,
    reader: TableReader,
    out: Path,
    *,
    threshold: float | None = None,
    probabilities: bool = False,
    on_rows: RowProgress | None = None,
) -> Scored:
    """Score every row of a table into ``out``: its own columns, then what the model says.

    The output grows in ``out.part``; what of it is certain is noted in ``out.progress`` after each
    chunk. However the process ends, the same call continues after the last certain row, so that no
    row is lost or written twice, and the finished file is renamed to ``out``. An existing ``out``
    is never touched.

    Args:
        model: the model.
        reader: the table; it has the same rows whenever it is read.
        out: a CSV file, or JSON Lines if its name ends in .jsonl.
        threshold: see `TrainedModel.predict`.
        probabilities: add a column for the probability of each label.
        on_rows: told about progress.

    Raises:
        ConfigurationError: ``out`` exists, cannot be written, or belongs to other input.
        DataError: the table cannot be read, or has no row.
    """
    if out.exists():
        raise ConfigurationError(f"{out} exists already; nothing is overwritten: name another file")
    identity = _identity(model, reader, threshold, probabilities)
    part, note = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.progress")
    try:
        with _locked(part) as stream:
            done = _continue(stream, note, identity)
            first = done
            table = _Lines(model, reader, probabilities, json_lines=out.suffix in _JSON_LINES)
            if done == 0:
                stream.write(table.header())
            rows = islice(iter(reader), done, None)
            for chunk in iter(lambda: list(islice(rows, CHUNK_ROWS)), []):
                stream.write(table.lines(chunk, threshold))
                done += len(chunk)
                stream.flush()
                os.fsync(stream.fileno())
                write_json(note, {**identity, "rows": done, "bytes": stream.tell()})
                if on_rows is not None:
                    on_rows(done)
            if done == 0:
                part.unlink()
                raise DataError("no row below the header", file=reader.path)
            stream.flush()
            os.fsync(stream.fileno())
            part.rename(out)
            note.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{out} cannot be written: {error.strerror or error}; what is done is kept in "
            f"{part.name}, and the same command continues it"
        ) from error
    problems = reader.problems
    return Scored(done, first, problems.rejected.total(), problems.mended.total())


def predict_stream(
    model: TrainedModel,
    source: BinaryIO,
    sink: BinaryIO,
    *,
    text: str = "text",
    threshold: float | None = None,
) -> int:
    """Score newline-delimited JSON as it arrives; each line is answered by one line, in order.

    A line is an object with the field ``text``, or a string. Its answer is the object with what the
    model says added, or with ``error``. Lines that arrive together are scored together, and no
    line waits for the next.

    Returns:
        The number of lines answered.
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
            answers = _answers(model, lines, text, threshold)
            sink.writelines(
                json.dumps(item, ensure_ascii=False).encode() + b"\n" for item in answers
            )
            sink.flush()
            answered += len(lines)
        if not received:
            return answered


def describe(prediction: Prediction, objective: str) -> dict[str, Any]:
    """A prediction as JSON: ``label`` and ``probability``, ``labels``, or ``value``."""
    if objective == "regression":
        return {"value": prediction.value}
    if objective == "multi":
        return {"labels": list(prediction.labels), "probability": prediction.probability}
    return {"label": prediction.label, "probability": prediction.probability}


def _answers(
    model: TrainedModel, lines: Sequence[bytes], field: str, threshold: float | None
) -> Iterator[dict[str, Any]]:
    entries = [_entry(line, field) for line in lines]
    texts = [entry for entry, _ in entries if entry is not None]
    predictions = iter(model.predict(texts, threshold=threshold))
    for text, fields in entries:
        if text is None:
            yield fields
        else:
            yield {**fields, **describe(next(predictions), model.manifest.objective)}


def _json_line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _entry(line: bytes, field: str) -> tuple[str | None, dict[str, Any]]:
    """The text of a line and its other fields, or None and what was wrong."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None, {"error": "not valid JSON"}
    if isinstance(value, str):
        value = {field: value}
    if not isinstance(value, dict) or not isinstance(value.get(field), str):
        return None, {"error": f"not an object with a string {field!r}"}
    return value[field], value


class _Lines:
    """Rows of the output."""

    def __init__(
        self, model: TrainedModel, reader: TableReader, probabilities: bool, *, json_lines: bool
    ) -> None:
        self._model = model
        self._json_lines = json_lines
        self._probabilities = probabilities and bool(model.labels)
        kind = model.manifest.objective
        added = ["value"] if kind == "regression" else ["predicted", "probability"]
        if self._probabilities:
            added += [f"p({label})" for label in model.labels]
        # A column of the input never hides what the model says.
        taken = set(reader.columns)
        self._columns = [*reader.columns]
        for name in added:
            unique = name
            while unique in taken:
                unique += "_"
            taken.add(unique)
            self._columns.append(unique)

    def header(self) -> bytes:
        """The first line of a CSV file, with a byte order mark for Excel."""
        if self._json_lines:
            return b""
        return b"\xef\xbb\xbf" + _csv([self._columns])

    def lines(self, rows: Sequence[Row], threshold: float | None) -> bytes:
        """The lines of a chunk; a row without a text gets no label."""
        filled = [row for row in rows if row.text]
        cells = iter(self._cells([row.text or "" for row in filled], threshold))
        blank = [None] * (len(self._columns) - len(rows[0].values))
        table = [[*row.values, *(next(cells) if row.text else blank)] for row in rows]
        if not self._json_lines:
            return _csv(table)
        objects = (dict(zip(self._columns, row, strict=True)) for row in table)
        return b"".join(map(_json_line, objects))

    def _cells(self, texts: Sequence[str], threshold: float | None) -> Iterator[list[Any]]:
        model = self._model
        scores = model.scores(texts)
        if model.manifest.objective == "regression":
            for value in scores[:, 0].tolist():
                yield [f"{value:.6g}"]
            return
        probabilities = model.as_probabilities(scores)
        for prediction, row in zip(
            model.decide(probabilities, threshold), probabilities.tolist(), strict=True
        ):
            cells: list[Any] = ["|".join(prediction.labels), f"{prediction.probability:.4f}"]
            yield cells + ([f"{value:.4f}" for value in row] if self._probabilities else [])


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogatepass")


def _identity(
    model: TrainedModel, reader: TableReader, threshold: float | None, probabilities: bool
) -> dict[str, Any]:
    """What must be the same for an interrupted file to be continued."""
    state = reader.path.stat()
    return {
        "input": str(reader.path.resolve()),
        "size": state.st_size,
        "modified": state.st_mtime_ns,
        "text_columns": list(reader.text_columns),
        "model": model.name,
        "data": model.manifest.data_fingerprint,
        "threshold": threshold,
        "probabilities": probabilities,
    }


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    part.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"another process is writing {part} right now") from None
        yield stream


def _continue(stream: BinaryIO, note: Path, identity: dict[str, Any]) -> int:
    """Cut off what is not certain and return how many rows are done."""
    if not note.exists():
        stream.truncate(0)
        return 0
    noted = read_json(note, _NOTE_BYTES)
    if any(noted.get(name) != value for name, value in identity.items()):
        raise ConfigurationError(
            f"{note} belongs to another input, model or setting; finish that one, or remove "
            f"{note.name} and {note.stem}.part to begin anew"
        )
    size = int(noted["bytes"])
    if stream.seek(0, os.SEEK_END) < size:
        raise ConfigurationError(f"{note.stem}.part is shorter than {note.name} says; remove both")
    stream.seek(size)
    stream.truncate(size)
    return int(noted["rows"])
