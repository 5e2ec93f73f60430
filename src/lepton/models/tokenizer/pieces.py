"""The bytes a token stands for.

Byte-level vocabularies spell each byte as one printable character (GPT-2, Radford et al. 2019);
SentencePiece vocabularies spell a space as U+2581 and a lone byte as ``<0xNN>`` (Kudo and
Richardson 2018, arXiv:1808.06226). Decoding goes through bytes in both, so that a character cut
between two tokens is put together again.
"""

from __future__ import annotations

import re
from collections.abc import Callable

SPACE_MARK = "\u2581"
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """Map each character of the byte-level alphabet to its byte.

    Printable Latin-1 bytes spell themselves; the others take code points from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }


BYTE_OF = _byte_alphabet()


def byte_level_bytes(piece: str) -> bytes:
    """Bytes of a byte-level piece; a piece outside the alphabet is taken as plain text."""
    try:
        return bytes([BYTE_OF[character] for character in piece])
    except KeyError:
        return piece.encode("utf-8", "replace")


def sentencepiece_bytes(piece: str) -> bytes:
    """Bytes of a SentencePiece piece: ``<0xNN>`` is one byte, U+2581 is a space."""
    match = BYTE_PIECE.fullmatch(piece)
    if match:
        return bytes([int(match[1], 16)])
    return piece.replace(SPACE_MARK, " ").encode("utf-8", "replace")


PieceBytes = Callable[[str], bytes]
