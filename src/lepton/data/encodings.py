"""Finding out how a text file is encoded, and decoding it line by line.

Lines are decoded one at a time, so that one line in another encoding (a file pasted together from
an export of Excel and one of a database) costs that line a note and not the file.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from lepton.data.table import Problems, RowProblem
from lepton.errors import DataError

SAMPLE_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Bytes of GB2312's level 1: its 3,755 everyday characters. GB18030 maps nearly any pair of bytes
# to some character, so what tells real Chinese is that the characters are common ones.
_COMMON_LEAD = range(0xB0, 0xD8)


@dataclass(frozen=True, slots=True)
class Line:
    """One decoded line with its line end."""

    number: int
    text: str
    size: int
    """Bytes in the file."""


def detect_encoding(sample: bytes) -> str:
    """The Python name of the encoding that ``sample``, the beginning of a file, is written in.

    A byte order mark decides. Without one the text is UTF-8 unless more of the lines with
    characters beyond ASCII break UTF-8 than follow it; then it is GB18030 (which contains GBK and
    GB2312) where it reads as everyday Chinese, and otherwise Windows-1252.
    """
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name
    lines = sample.split(b"\n")
    if len(sample) >= SAMPLE_BYTES and len(lines) > 1:
        lines.pop()
    beyond_ascii = [line for line in lines if not line.isascii()]
    broken = [line for line in beyond_ascii if not _is_utf8(line)]
    if 2 * len(broken) <= len(beyond_ascii):
        return "utf-8"
    return "gb18030" if _reads_as_chinese(b"\n".join(broken)) else "cp1252"


def check_encoding(encoding: str, source: str) -> None:
    """Refuse the name of an encoding that Python does not know.

    Raises:
        DataError: there is none of that name, or it is not one of text.
    """
    try:
        b" ".decode(encoding, errors="replace")
    except LookupError:
        raise DataError(
            f"unknown encoding {encoding!r}; name one such as utf-8 or gb18030", file=source
        ) from None


def decode_lines(
    stream: BinaryIO, encoding: str, problems: Problems, *, source: str
) -> Iterator[Line]:
    """The lines of ``stream``, decoded; those in another encoding are mended and noted.

    Raises:
        DataError: the encoding is unknown, or a line is longer than 16 MB.
    """
    check_encoding(encoding, source)
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        yield from _wide_lines(stream, encoding, source)
        return
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise DataError(
                f"longer than {MAX_LINE_BYTES >> 20} MB: is this a text file?",
                file=source,
                line=number,
            )
        body = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        yield Line(number, _decode(body, encoding, number, problems), len(raw))


def _decode(raw: bytes, encoding: str, number: int, problems: Problems) -> str:
    encoding = encoding.removesuffix("-sig")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        pass
    if encoding != "utf-8" and _is_utf8(raw):
        other, text = "utf-8", raw.decode()
    elif _decodes(raw, "gb18030") and _reads_as_chinese(raw):
        other, text = "gb18030", raw.decode("gb18030")
    else:
        other, text = "", raw.decode(encoding, errors="replace")
    detail = (
        f"written in {other}, unlike the rest of the file ({encoding})"
        if other
        else f"not {encoding}: unreadable bytes became U+FFFD"
    )
    problems.add(RowProblem(number, "encoding", detail, kept=True))
    return text


def _wide_lines(stream: BinaryIO, encoding: str, source: str) -> Iterator[Line]:
    # Ends of lines are left to the parser: within quotes they belong to the cell.
    reader = io.TextIOWrapper(stream, encoding, newline="\n")
    try:
        for number, text in enumerate(reader, 1):
            yield Line(number, text, 2 * len(text))
    except UnicodeError as error:
        raise DataError(
            f"not {encoding} throughout: {error}; save it as UTF-8", file=source
        ) from error


def _is_utf8(raw: bytes) -> bool:
    return _decodes(raw, "utf-8")


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _reads_as_chinese(raw: bytes) -> bool:
    """Whether most pairs of bytes beyond ASCII are everyday characters of GB2312."""
    pairs = common = index = 0
    while index < len(raw):
        if raw[index] < 0x80:
            index += 1
            continue
        trail = raw[index + 1] if index + 1 < len(raw) else 0
        pairs += 1
        # Punctuation and full-width letters (rows 1 and 3) count as everyday too.
        if trail >= 0xA1 and (raw[index] in _COMMON_LEAD or raw[index] in (0xA1, 0xA3)):
            common += 1
        index += 2
    return pairs > 0 and 2 * common > pairs
