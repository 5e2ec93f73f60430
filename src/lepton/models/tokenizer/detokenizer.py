"""Text from token ids, one at a time."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class Detokenizer:
    """Turns a stream of token ids into text, holding back the bytes of unfinished characters.

    What has been returned never changes: the concatenated pieces equal decoding all ids at once.
    Bytes that can no longer become a character are returned as U+FFFD; bytes that still may are
    held until they do or until `flush`. One `add` costs time in the length of its token only.
    Not safe for use from several threads at once.
    """

    def __init__(self, visible_bytes: Callable[[int], bytes], *, strip_leading_space: bool) -> None:
        self._visible_bytes = visible_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip_leading_space = strip_leading_space

    def add(self, token_id: int) -> str:
        """Take the next token; return the text that it completes, often all of its own."""
        return self._text(self._visible_bytes(token_id), final=False)

    def flush(self) -> str:
        """End the text: return what was held back, as U+FFFD."""
        return self._text(b"", final=True)

    def _text(self, data: bytes, *, final: bool) -> str:
        text = self._decoder.decode(data, final)
        if text and self._strip_leading_space:
            self._strip_leading_space = False
            text = text.removeprefix(" ")
        return text
