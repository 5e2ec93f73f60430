"""The formats of text a table is read from, each as columns and a stream of rows of cells."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from lepton.data.cells import cell, header_names
from lepton.data.delimited import parse_rows, sniff_delimiter
from lepton.data.encodings import (
    SAMPLE_BYTES,
    Line,
    check_encoding,
    decode_lines,
    detect_encoding,
)
from lepton.data.table import Problems, RowProblem
from lepton.errors import DataError

DELIMITED = frozenset({".csv", ".tsv", ".tab", ".txt"})
JSON_LINES = frozenset({".jsonl", ".ndjson", ".json"})
PARQUET = frozenset({".parquet", ".pq"})
EXCEL = frozenset({".xlsx", ".xlsm"})

_JSON_SAMPLE_ROWS = 1000
_MAX_DOCUMENT_BYTES = 16 << 20


class Format(Protocol):
    """A file that was opened: its columns are known, its rows are yet to be read."""

    columns: tuple[str, ...]
    size: int | None
    """What ``position`` counts up to: bytes, or rows; None where that is not known."""
    position: int

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:
        """Line and cells of each row, as many cells as columns."""
        ...


class DelimitedFormat:
    """CSV, TSV and other delimited text."""

    def __init__(
        self, path: Path, encoding: str | None, delimiter: str | None, header: bool
    ) -> None:
        self._path = path
        with path.open("rb") as stream:
            sample = stream.read(SAMPLE_BYTES)
        self.encoding = encoding or detect_encoding(sample)
        check_encoding(self.encoding, str(path))
        self.delimiter = delimiter or sniff_delimiter(
            sample.decode(self.encoding, errors="replace")
        )
        self.size: int | None = path.stat().st_size
        self.position = 0
        self._header = header
        first = next((cells for _, cells in self._parse(Problems())), None)
        if first is None:
            raise DataError("the file is empty: there is no row to read", file=path)
        self.columns = header_names(first if header else [""] * len(first))

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:
        """See ``Format.rows``; a row with too many or too few cells is listed."""
        width = len(self.columns)
        rows = self._parse(problems)
        for line, cells in itertools.islice(rows, 1 if self._header else 0, None):
            if len(cells) == width:
                yield line, cells
                continue
            surplus = cells[width:]
            kept = len(cells) > 1 and not any(cell.strip() for cell in surplus)
            detail = f"{len(cells)} cells where the header has {width}"
            if surplus and not kept:
                detail += f"; is a cell that holds {self.delimiter!r} missing its quotes?"
            problems.add(RowProblem(line, "columns", detail, kept=kept))
            if kept:
                yield line, [*cells[:width], *[None] * (width - len(cells))]

    def _parse(self, problems: Problems) -> Iterator[tuple[int, list[str]]]:
        with self._path.open("rb") as stream:
            lines = decode_lines(stream, self.encoding, problems, source=str(self._path))

            def counted() -> Iterator[Any]:
                self.position = 0
                for line in lines:
                    self.position += line.size
                    yield line

            yield from parse_rows(counted(), self.delimiter, problems)


class JsonLinesFormat:
    """One JSON object a line; columns are the fields of the first 1,000 objects."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        self._path = path
        with path.open("rb") as stream:
            sample = stream.read(SAMPLE_BYTES)
        self.encoding = encoding or detect_encoding(sample)
        if sample.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            raise DataError(
                "one JSON array; write one object a line instead (JSON Lines)", file=path
            )
        self.size: int | None = path.stat().st_size
        self.position = 0
        objects = itertools.islice(self._objects(Problems()), _JSON_SAMPLE_ROWS)
        self.columns = tuple(dict.fromkeys(key for _, row in objects for key in row))
        if not self.columns:
            raise DataError("the file holds no JSON object", file=path)

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:
        """See ``Format.rows``."""
        known = frozenset(self.columns)
        for line, row in self._objects(problems):
            if not known.issuperset(row):
                unknown = ", ".join(sorted(set(row) - known))
                detail = f"fields that the first rows do not have: {unknown}"
                problems.add(RowProblem(line, "columns", detail, kept=True))
            yield line, [cell(row.get(column)) for column in self.columns]

    def _objects(self, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._path.open("rb") as stream:
            self.position = 0
            lines = decode_lines(stream, self.encoding, problems, source=str(self._path))
            for line in lines:
                self.position += line.size
                if not line.text.strip():
                    continue
                try:
                    row = json.loads(line.text)
                except (ValueError, RecursionError) as error:
                    detail = f"not JSON: {error}"
                else:
                    if isinstance(row, dict):
                        yield line.number, _whole_characters(row, line, problems)
                        continue
                    detail = "not a JSON object"
                problems.add(RowProblem(line.number, "json", detail, kept=False))


class FolderFormat:
    """A folder with a sub-folder for each label and a text file for each row."""

    columns: tuple[str, ...] = ("text", "label", "file")

    def __init__(self, path: Path, encoding: str | None) -> None:
        if encoding is not None:
            check_encoding(encoding, str(path))
        self._encoding = encoding
        self._files = [
            file
            for folder in sorted(path.iterdir())
            if folder.is_dir() and not folder.name.startswith(".")
            for file in sorted(folder.iterdir())
            if file.is_file() and not file.name.startswith(".")
        ]
        if not self._files:
            raise DataError(
                "no text is here: give a folder with one sub-folder for each label", file=path
            )
        self.size: int | None = len(self._files)
        self.position = 0

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:
        """See ``Format.rows``; a file longer than 16 MB is listed and not read."""
        for number, file in enumerate(self._files, 1):
            self.position = number
            if file.stat().st_size > _MAX_DOCUMENT_BYTES:
                detail = f"{file.name} is longer than {_MAX_DOCUMENT_BYTES >> 20} MB"
                problems.add(RowProblem(number, "cell", detail, kept=False))
                continue
            raw = file.read_bytes()
            encoding = self._encoding or detect_encoding(raw)
            try:
                text = raw.decode(encoding)
            except UnicodeDecodeError:
                text = raw.decode(encoding, errors="replace")
                detail = f"{file.name} is not {encoding}: unreadable bytes became U+FFFD"
                problems.add(RowProblem(number, "encoding", detail, kept=True))
            yield number, (text, file.parent.name, f"{file.parent.name}/{file.name}")


def _whole_characters(row: dict[str, Any], line: Line, problems: Problems) -> dict[str, Any]:
    """``row`` without halves of surrogate pairs, which no encoding can write."""
    if "\\u" not in line.text:
        return row
    text = json.dumps(row, ensure_ascii=False)
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if whole == text:
        return row
    detail = "half of a surrogate pair became U+FFFD"
    problems.add(RowProblem(line.number, "encoding", detail, kept=True))
    mended: dict[str, Any] = json.loads(whole)
    return mended
