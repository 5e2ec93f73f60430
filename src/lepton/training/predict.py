"""Scoring tables with a trained model, in memory that does not grow with them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lepton.data.formats import DELIMITED
from lepton.data.reading import TableReader
from lepton.data.table import Row
from lepton.errors import ConfigurationError, DataError
from lepton.training.predict_stream import json_line, with_unused
from lepton.training.resumable import ResumableFile
from lepton.training.run import check_columns
from lepton.training.trained_model import Prediction, TrainedModel

CHUNK_ROWS = 2048
_JSON_LINES = frozenset({".jsonl", ".ndjson"})
_TABS = frozenset({".tsv", ".tab"})

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
    is never written over.

    Args:
        model: the model.
        reader: the table; it has the same rows whenever it is read.
        out: a file whose name ends in .csv or .txt, .tsv or .tab, or .jsonl or .ndjson, where
            probabilities are numbers and several labels a list.
        threshold: see `TrainedModel.predict`.
        probabilities: add a column for the probability of each label.
        on_rows: told about progress.

    Raises:
        ConfigurationError: ``out`` exists, cannot be written, is of another format, or belongs to
            other input.
        DataError: the table cannot be read, has no row, or has fewer text columns than the model
            reads.
        RequestError: the threshold is not between 0 and 1.
    """
    kind = out.suffix.lower()
    if kind not in DELIMITED | _JSON_LINES:
        raise ConfigurationError(f"{out}: predictions are written as .csv, .tsv or .jsonl")
    check_columns(model.manifest, reader.text_columns)
    table = _Lines(model, reader, probabilities, kind)
    identity = _identity(model, reader, threshold, probabilities)
    with ResumableFile.opened(out, identity) as file:
        resumed_at = file.rows
        content = b"" if resumed_at else table.header()
        for chunk in _chunks(reader, resumed_at):
            file.append(content + table.lines(chunk, threshold), len(chunk))
            content = b""
            if on_rows is not None:
                on_rows(file.rows)
        if file.rows == 0:
            raise DataError("no row below the header", file=reader.path)
        file.finish()
    problems = reader.problems
    return Scored(file.rows, resumed_at, problems.rejected.total(), problems.mended.total())


def _chunks(reader: TableReader, skipped: int) -> Iterator[list[Row]]:
    rows = islice(iter(reader), skipped, None)
    try:
        while chunk := list(islice(rows, CHUNK_ROWS)):
            yield chunk
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", file=reader.path) from error


class _Lines:
    """Rows of the output."""

    def __init__(
        self, model: TrainedModel, reader: TableReader, probabilities: bool, kind: str
    ) -> None:
        self._model = model
        self._json_lines = kind in _JSON_LINES
        self._delimiter = "\t" if kind in _TABS else ","
        self._probabilities = probabilities and bool(model.labels)
        regression = model.manifest.objective == "regression"
        added = ["value"] if regression else ["predicted", "probability"]
        if self._probabilities:
            added += [f"p({label})" for label in model.labels]
        self._added = len(added)
        self._columns = [*reader.columns, *with_unused(added, reader.columns)]

    def header(self) -> bytes:
        """The first line of a CSV file, with a byte order mark for Excel."""
        return b"" if self._json_lines else b"\xef\xbb\xbf" + self._csv([self._columns])

    def lines(self, rows: Sequence[Row], threshold: float | None) -> bytes:
        """The lines of a chunk; a row without a text gets no label."""
        filled = [row for row in rows if row.text]
        cells = iter(self._cells([row.text or "" for row in filled], threshold))
        blank = [None] * self._added
        table = [[*row.values, *(next(cells) if row.text else blank)] for row in rows]
        if not self._json_lines:
            return self._csv(table)
        objects = (dict(zip(self._columns, row, strict=True)) for row in table)
        return b"".join(map(json_line, objects))

    def _cells(self, texts: Sequence[str], threshold: float | None) -> Iterator[list[Any]]:
        model = self._model
        scores = model.scores(texts)
        if model.manifest.objective == "regression":
            yield from ([self._number(value, ".6g")] for value in scores[:, 0].tolist())
            return
        probabilities = model.as_probabilities(scores)
        for prediction, row in zip(
            model.decide(probabilities, threshold), probabilities.tolist(), strict=True
        ):
            shown = [prediction.probability, *(row if self._probabilities else ())]
            yield [self._label(prediction), *(self._number(value, ".4f") for value in shown)]

    def _label(self, prediction: Prediction) -> Any:
        if not self._json_lines:
            return "|".join(prediction.labels)
        multi = self._model.manifest.objective == "multi"
        return list(prediction.labels) if multi else prediction.label

    def _number(self, value: float, digits: str) -> str | float:
        text = format(value, digits)
        return float(text) if self._json_lines else text

    def _csv(self, rows: Sequence[Sequence[Any]]) -> bytes:
        stream = io.StringIO()
        csv.writer(stream, delimiter=self._delimiter, lineterminator="\n").writerows(rows)
        return stream.getvalue().encode("utf-8", "surrogatepass")


def _identity(
    model: TrainedModel, reader: TableReader, threshold: float | None, probabilities: bool
) -> dict[str, Any]:
    """What must be the same for an interrupted file to be continued."""
    state = reader.path.stat()
    manifest = json.dumps(asdict(model.manifest), sort_keys=True, default=str)
    return {
        "input": str(reader.path.resolve()),
        "size": state.st_size,
        "modified": state.st_mtime_ns,
        "columns": list(reader.columns),
        "text_columns": list(reader.text_columns),
        "encoding": reader.encoding,
        "delimiter": reader.delimiter,
        "sheet": reader.sheet,
        "model": model.name,
        "run": hashlib.sha256(manifest.encode()).hexdigest(),
        "threshold": threshold,
        "probabilities": probabilities,
    }
