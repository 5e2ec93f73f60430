"""Rows of text with a label, and what was wrong with the ones that could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lepton.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    number: int
    """Counted from 1, without the header and without rows that could not be read."""
    line: int
    """Where the row begins in its file, counted from 1; in a folder, the file's number."""
    text: str | None
    """The text columns, joined by line ends; None where they are missing."""
    label: str | None
    values: tuple[str | None, ...]
    """Every column, in the order of ``columns``; None where missing."""


def joined_columns(parts: Sequence[str | None]) -> str | None:
    """The text that the text columns of a row make; None where all of them are empty.

    A line for each column but the last, which may have several.
    """
    if not any(parts):
        return None
    lines = [" ".join((part or "").split()) for part in parts[:-1]]
    return "\n".join([*lines, parts[-1] or ""])


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What was wrong with one row of a file."""

    line: int
    reason: str
    """One of a few fixed words: "encoding", "columns", "quoting", "json", "cell"."""
    detail: str
    kept: bool
    """Whether the row was mended and read; otherwise it is not in the table."""


ProblemCallback = Callable[[RowProblem], None]


@dataclass(slots=True)
class Problems:
    """Problems of a file: all are counted, and the first ``limit`` are kept."""

    limit: int = 100
    first: list[RowProblem] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    callback: ProblemCallback | None = None
    """Called with every problem; ``ProblemWriter.add`` writes a table of them."""

    def add(self, problem: RowProblem) -> None:
        """Count ``problem`` and keep it while there is room."""
        (self.mended if problem.kept else self.rejected)[problem.reason] += 1
        if len(self.first) < self.limit:
            self.first.append(problem)
        if self.callback is not None:
            self.callback(problem)

    def __len__(self) -> int:
        return self.rejected.total() + self.mended.total()

    def __iter__(self) -> Iterator[RowProblem]:
        return iter(self.first)


@dataclass(slots=True)
class Table:
    """A table in memory."""

    source: str
    """The file or folder it came from, for messages."""
    columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    label_column: str | None
    rows: list[Row]
    problems: Problems = field(default_factory=Problems)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def texts(self) -> list[str]:
        """The text of every row, "" where it is missing."""
        return [row.text or "" for row in self.rows]

    @property
    def labels(self) -> list[str | None]:
        """The label of every row."""
        return [row.label for row in self.rows]

    def column(self, name: str) -> list[str | None]:
        """One column.

        Raises:
            DataError: there is no such column.
        """
        index = column_index(self.columns, name, self.source)
        return [row.values[index] for row in self.rows]

    def labelled(self) -> tuple[Table, int]:
        """The rows that have both a text and a label, and how many were left out."""
        rows = [row for row in self.rows if row.text and row.label is not None]
        return self.with_rows(rows), len(self.rows) - len(rows)

    def take(self, indices: Iterable[int]) -> Table:
        """The rows at ``indices`` (from 0), in that order."""
        return self.with_rows([self.rows[index] for index in indices])

    def with_rows(self, rows: list[Row]) -> Table:
        """The same table with other rows."""
        return Table(
            self.source, self.columns, self.text_columns, self.label_column, rows, self.problems
        )


def column_index(columns: Sequence[str], name: str, source: str) -> int:
    """Where the column ``name`` stands.

    Raises:
        DataError: there is no such column; the message names those that there are.
    """
    try:
        return list(columns).index(name)
    except ValueError:
        known = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
        raise DataError(
            f"there is no such column; the file has: {known}", file=source, column=name
        ) from None
