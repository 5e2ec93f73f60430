"""Breaking lines between words while a text is still being written."""

from __future__ import annotations

import re

from rich.cells import cell_len

_PARTS = re.compile(r"\n| +|[^\n ]+")


class WordWrap:
    """Inserts line breaks into text that arrives piece by piece; drops spaces at a line's end.

    A word that comes in several pieces may be broken where its later pieces no longer fit: what
    was printed cannot be taken back. Text without spaces, such as Chinese, is left to the terminal.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._after_space = True

    def add(self, text: str) -> str:
        """``text`` with the line breaks it needs."""
        return "".join(self._place(part) for part in _PARTS.findall(text))

    def _place(self, part: str) -> str:
        if part == "\n":
            self._column, self._after_space = 0, True
            return part
        if part[0] == " ":
            part = part[: self._width - self._column]
            self._column, self._after_space = self._column + len(part), True
            return part
        length = cell_len(part)
        if self._after_space and 0 < self._column > self._width - length:
            self._column, part = 0, f"\n{part}"
        self._column, self._after_space = self._column + length, False
        if self._column > self._width:
            self._column %= self._width
        return part
