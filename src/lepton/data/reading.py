"""Opening a table of texts in any format, streaming it, or reading it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lepton.data import formats, typed_formats
from lepton.data.missing import MISSING
from lepton.data.table import (
    ProblemCallback,
    Problems,
    Row,
    Table,
    column_index,
    joined_columns,
)
from lepton.errors import DataError

_TEXT_NAMES = (
    *("text", "texts", "question", "content", "sentence", "message", "comment", "review", "query"),
    *("title", "文本", "内容", "问题", "正文", "评论", "标题"),
)
_LABEL_NAMES = (
    *("label", "labels", "intent", "category", "class", "target", "sentiment", "topic"),
    *("标签", "类别", "分类", "意图", "类型"),
)
_PROGRESS_EVERY = 2048

ReadProgress = Callable[[int, int | None], None]
"""Called with how much was read and of how much: bytes, rows or files; None if unknown."""


class TableReader:
    """A table that is read row by row, in memory that does not grow with it.

    Iterate over it as often as needed; ``problems`` holds what the latest iteration met.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        text: str | Sequence[str] | None = None,
        usual_text: Sequence[str] = (),
        label: str | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        header: bool = True,
        sheet: str | None = None,
        missing: frozenset[str] = MISSING,
        on_problem: ProblemCallback | None = None,
        progress: ReadProgress | None = None,
    ) -> None:
        """Open ``path`` and read its header; arguments as for ``read_table``."""
        self.path = Path(path)
        self._format = _open(self.path, encoding, delimiter, header, sheet)
        self.columns = self._format.columns
        self.sheet = sheet
        wanted = (text,) if isinstance(text, str) else text
        if not wanted and set(usual_text) <= set(self.columns):
            wanted = usual_text
        self.text_columns = tuple(wanted) if wanted else (self._guess(_TEXT_NAMES, "text"),)
        self.label_column = label or self._guess_label()
        self._text_indices = [self._index(name) for name in self.text_columns]
        self._label_index = None if self.label_column is None else self._index(self.label_column)
        self._missing = missing
        self._on_problem = on_problem
        self._progress = progress
        self.problems = Problems(callback=on_problem)

    @property
    def encoding(self) -> str | None:
        """The encoding of a text file."""
        return getattr(self._format, "encoding", None)

    @property
    def delimiter(self) -> str | None:
        """The delimiter of a CSV or TSV file."""
        return getattr(self._format, "delimiter", None)

    def __iter__(self) -> Iterator[Row]:
        return self.rows(self._on_problem)

    def rows(self, on_problem: ProblemCallback | None = None) -> Iterator[Row]:
        """As iterating, but ``on_problem`` is called with what was rejected or mended before."""
        self.problems = Problems(callback=on_problem)
        for number, (line, cells) in enumerate(self._format.rows(self.problems), 1):
            if self._progress is not None and number % _PROGRESS_EVERY == 0:
                self._progress(self._format.position, self._format.size)
            yield self._row(number, line, cells)
        if self._progress is not None:
            self._progress(self._format.position, self._format.size or self._format.position)

    def _row(self, number: int, line: int, cells: Sequence[str | None]) -> Row:
        values = tuple(
            None if value is None or value.strip() in self._missing else value for value in cells
        )
        text = joined_columns([values[index] for index in self._text_indices])
        label = None if self._label_index is None else values[self._label_index]
        return Row(number, line, text, label and label.strip(), values)

    def _index(self, name: str) -> int:
        return column_index(self.columns, name, str(self.path))

    def _guess(self, names: tuple[str, ...], what: str) -> str:
        by_lower = {column.lower(): column for column in reversed(self.columns)}
        for name in names:
            if name in by_lower:
                return by_lower[name]
        if len(self.columns) == 1:
            return self.columns[0]
        raise DataError(
            f"which column holds the {what}? Name one of: {', '.join(self.columns[:20])}",
            file=self.path,
        )

    def _guess_label(self) -> str | None:
        try:
            guessed = self._guess(_LABEL_NAMES, "label")
        except DataError:
            return None
        return None if guessed in self.text_columns else guessed


def read_table(
    path: str | Path,
    *,
    text: str | Sequence[str] | None = None,
    usual_text: Sequence[str] = (),
    label: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    sheet: str | None = None,
    missing: frozenset[str] = MISSING,
    on_problem: ProblemCallback | None = None,
    progress: ReadProgress | None = None,
    max_rows: int | None = None,
) -> Table:
    """Read a table of texts into memory; ``TableReader`` streams one.

    Args:
        path: CSV, TSV, JSON Lines, Parquet, Excel, or a folder with a sub-folder for each label.
        text: the column (or columns, to be joined by line ends) with the text; guessed from common
            names if not given.
        usual_text: columns to take where ``text`` is not given and the table has them all.
        label: the column with the label; guessed if not given, and there may be none.
        encoding: of a text file; found out if not given (UTF-8, UTF-16, GB18030, Windows-1252).
        delimiter: of CSV; found out if not given.
        header: whether the first row holds the names of the columns.
        sheet: of an Excel workbook; the first if not given.
        missing: cells that mean that there is nothing.
        on_problem: called with every row that was mended or rejected.
        progress: called now and then with how much was read, and of how much.
        max_rows: stop after so many rows.

    Returns:
        The rows in the file's order. Rows that could not be read are in ``problems``.

    Raises:
        DataError: the file is missing, empty, of an unknown format, or lacks a column.
    """
    reader = TableReader(
        path,
        text=text,
        usual_text=usual_text,
        label=label,
        encoding=encoding,
        delimiter=delimiter,
        header=header,
        sheet=sheet,
        missing=missing,
        on_problem=on_problem,
        progress=progress,
    )
    rows: list[Row] = []
    for row in reader:
        if max_rows is not None and len(rows) == max_rows:
            break
        rows.append(row)
    if not rows:
        lost = f"; {len(reader.problems):,} could not be read" if len(reader.problems) else ""
        raise DataError(f"no row below the header{lost}", file=path)
    return Table(
        str(path), reader.columns, reader.text_columns, reader.label_column, rows, reader.problems
    )


def _open(
    path: Path, encoding: str | None, delimiter: str | None, header: bool, sheet: str | None
) -> formats.Format:
    try:
        if path.is_dir():
            return formats.FolderFormat(path, encoding)
        kind = path.suffix.lower()
        if path.stat().st_size == 0:
            raise DataError("the file is empty", file=path)
        if kind in formats.DELIMITED:
            tab = "\t" if kind in (".tsv", ".tab") else None
            return formats.DelimitedFormat(path, encoding, delimiter or tab, header)
        if kind in formats.JSON_LINES:
            return formats.JsonLinesFormat(path, encoding)
        if kind in formats.PARQUET:
            return typed_formats.ParquetFormat(path)
        if kind in formats.EXCEL:
            return typed_formats.ExcelFormat(path, sheet, header)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"cannot be read: {reason}", file=path) from error
    known = ", ".join(
        sorted(formats.DELIMITED | formats.JSON_LINES | formats.PARQUET | formats.EXCEL)
    )
    raise DataError(f"unknown format; known are {known} and folders", file=path)
