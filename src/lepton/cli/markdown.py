"""A little Markdown, styled while it streams: headings, bold, code, lists and fenced blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator

Piece = tuple[str, str]
"""Text and the rich style it is printed in; the empty style is plain."""

_FENCE = re.compile(r" {0,3}```")
_UNDECIDED = re.compile(r" {0,3}(`{1,2}|#{1,6}|[-*+]|\d{1,9}[.)]?)?")
_HEADING = re.compile(r" {0,3}#{1,6} ")
_BULLET = re.compile(r"( {0,3})[-*+] ")

CODE = "cyan"
HEADING = "bold magenta"


class MarkdownStream:
    """Cuts text that arrives in arbitrary pieces into styled ones.

    Only as much is held back as is needed to tell what a marker means, so the text appears as it
    comes; the pieces joined differ from the source only in the markers that were understood.
    """

    def __init__(self) -> None:
        self._held = ""
        self._line_start = True
        self._fenced = False
        self._line_style = ""
        self._bold = False
        self._code = False

    def add(self, text: str) -> Iterator[Piece]:
        """Pieces that can be printed now."""
        self._held += text
        yield from self._advance(final=False)

    def finish(self) -> Iterator[Piece]:
        """What was held back."""
        yield from self._advance(final=True)

    def _advance(self, *, final: bool) -> Iterator[Piece]:
        while self._held:
            before = self._held, self._line_start
            if self._line_start:
                yield from self._open_line(final=final)
            else:
                yield from self._inside(final=final)
            if (self._held, self._line_start) == before:
                return

    def _open_line(self, *, final: bool) -> Iterator[Piece]:
        line, newline, rest = self._held.partition("\n")
        if not newline and not final and self._wait(line):
            return
        if _FENCE.match(line):
            if not newline and not final:
                return
            self._fenced = not self._fenced
            self._held = rest
            yield f"{line}{newline}", "dim"
            return
        self._line_start = False
        if self._fenced:
            return
        if heading := _HEADING.match(line):
            self._line_style = HEADING
            self._held = self._held[heading.end() :]
        elif bullet := _BULLET.match(line):
            self._held = self._held[bullet.end() :]
            yield f"{bullet.group(1)}• ", ""

    def _wait(self, line: str) -> bool:
        """Whether the beginning of a line may still become a marker."""
        if self._fenced:
            return bool(re.fullmatch(r" {0,3}`{0,2}", line) and line)
        return bool(_UNDECIDED.fullmatch(line)) or bool(_FENCE.match(line))

    def _inside(self, *, final: bool) -> Iterator[Piece]:
        if self._held[0] == "\n":
            self._held = self._held[1:]
            self._line_start, self._line_style = True, ""
            self._bold = self._code = False
            yield "\n", ""
        elif self._fenced:
            yield self._take(r"[^\n]+")
        elif self._held[0] == "`":
            self._held = self._held[1:]
            self._code = not self._code
        elif self._held.startswith("**") and not self._code:
            self._held = self._held[2:]
            self._bold = not self._bold
        elif self._held == "*" and not final:
            return
        else:
            yield self._take(r"[^\n`]+" if self._code else r"\*?[^\n`*]*")

    def _take(self, pattern: str) -> Piece:
        match = re.match(pattern, self._held)
        text = match.group() if match and match.group() else self._held[0]
        self._held = self._held[len(text) :]
        return text, self._style()

    def _style(self) -> str:
        if self._fenced or self._code:
            return CODE
        return " ".join(
            style for style in (self._line_style, "bold" if self._bold else "") if style
        )
