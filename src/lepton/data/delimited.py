"""CSV and TSV (RFC 4180), read as a stream that survives damaged rows."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from lepton.data.encodings import Line
from lepton.data.table import Problems, RowProblem

MAX_ROW_CHARACTERS = 4 << 20
_DELIMITERS = ",\t;|"
_SNIFFED_LINES = 200
_LONE_RETURN = re.compile(r"(?<=\r)(?!\n|\Z)")

# The csv module takes fields of 128 kB only, fewer than a long article has; the limit is one for
# the whole process and is never lowered here.
csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_CHARACTERS))


def sniff_delimiter(sample: str) -> str:
    """The delimiter of ``sample``: the one that splits the most rows into equally many fields.

    Returns:
        "," where no delimiter occurs, so that a file of one column reads as one.
    """
    lines = list(itertools.islice(sample.splitlines(keepends=True), _SNIFFED_LINES))
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        # The header decides the width: a comma in the prose below it must not.
        if not widths or widths[0] < 2:
            continue
        share = Counter(widths)[widths[0]] / len(widths)
        score = share + 0.01 * min(widths[0], 10)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def parse_rows(
    lines: Iterable[Line], delimiter: str, problems: Problems
) -> Iterator[tuple[int, list[str]]]:
    """Every row as the number of its first line and its fields; blank lines are no rows.

    A row whose quotes do not close, or close in the middle of a field, is retried as a single line
    without that strictness; a quote that never closes costs its own line, and reading goes on with
    the next one.
    """
    feed = _Feed(_split_at_returns(lines))
    while True:
        reader = csv.reader(feed, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                first = feed.taken[0].number
                feed.taken.clear()
                if row:
                    yield first, row
        except csv.Error as error:
            first_line, *others = feed.taken
            feed.push_back(others)
            row = _lenient(first_line.text, delimiter)
            problems.add(
                RowProblem(first_line.number, "quoting", f"quotes: {error}", kept=bool(row))
            )
            if row:
                yield first_line.number, row
            continue
        return


def _lenient(text: str, delimiter: str) -> list[str]:
    """The cells of a single line whose quotes are paired but stand in odd places; or none."""
    if text.count('"') % 2:
        return []
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []


def _split_at_returns(lines: Iterable[Line]) -> Iterator[Line]:
    """Lines that end at a lone carriage return too, as old Macintosh programs write them."""
    for line in lines:
        if "\r" not in line.text[:-2]:
            yield line
            continue
        for text in _LONE_RETURN.split(line.text):
            yield Line(line.number, text, 0)


class _Feed:
    """Lines for a csv reader; remembers those of the row that is being read."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []
        self._characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self.taken:
            self._characters = 0
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        self._characters += len(line.text)
        if self._characters > MAX_ROW_CHARACTERS:
            raise csv.Error("a quote opened here never closes")
        return line.text

    def push_back(self, lines: list[Line]) -> None:
        """Give ``lines`` again before those that follow."""
        self._again.extendleft(reversed(lines))
        self.taken = []
