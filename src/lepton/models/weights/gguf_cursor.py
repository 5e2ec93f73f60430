"""Read the primitive values of a GGUF header one after another, never past its end."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.errors import ModelFormatError

MAX_HEADER_BYTES = 64 << 20
MAX_LIST_ELEMENTS = 1 << 21
"""Strings in all metadata arrays together; the largest vocabularies have half a million tokens
and as many merges."""
MAX_NESTED_ARRAYS = 1 << 13
MAX_ARRAY_DEPTH = 4

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_BOOL, _STRING, _ARRAY = 7, 8, 9
_NUMBERS: dict[int, np.dtype[Any]] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    _BOOL: np.dtype("<u1"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}


class GgufCursor:
    """Reads the header's primitive values in turn and refuses to pass its end."""

    def __init__(self, view: memoryview, file: object) -> None:
        self.view = view
        self.file = file
        self.position = 0
        self.end = min(len(view), MAX_HEADER_BYTES)
        self._list_elements = 0
        self._nested_arrays = 0
        self.place = "the header"
        """What is being read, for messages."""

    def error(self, message: str, position: int | None = None) -> ModelFormatError:
        """Make the error that names the file, what is being read, and the byte."""
        return ModelFormatError(
            f"{self.place}: {message}",
            file=self.file,
            offset=self.position if position is None else position,
        )

    def need(self, nbytes: int) -> None:
        """Check that so many bytes are left."""
        left = self.end - self.position
        if nbytes <= left:
            return
        if self.end < len(self.view):
            raise self.error(f"the header is larger than the {MAX_HEADER_BYTES:,} bytes allowed")
        raise self.error(
            f"{nbytes:,} bytes are announced but the file ends after {left:,}; "
            "it is damaged or was not downloaded completely"
        )

    def u32(self) -> int:
        """Read an unsigned 32-bit number."""
        self.need(4)
        (value,) = _U32.unpack_from(self.view, self.position)
        self.position += 4
        return int(value)

    def u64(self) -> int:
        """Read an unsigned 64-bit number."""
        self.need(8)
        (value,) = _U64.unpack_from(self.view, self.position)
        self.position += 8
        return int(value)

    def count(self, what: str, limit: int) -> int:
        """Read how many of ``what`` follow, at most ``limit``."""
        value = self.u64()
        if value > limit:
            raise self.error(
                f"{value:,} {what} announced, at most {limit:,} allowed", self.position - 8
            )
        return value

    def name(self, what: str, limit: int) -> str:
        """Read a string that must be short and not empty."""
        start = self.position
        length = self.u64()
        if not 0 < length <= limit:
            raise self.error(f"a {what} of {length:,} bytes, 1 to {limit:,} allowed", start)
        self.position = start
        return self.strings(1)[0]

    def strings(self, count: int) -> list[str]:
        """Read ``count`` strings; a plain loop, since vocabularies have 10^5 of them."""
        view, position, end = self.view, self.position, self.end
        unpack = _U64.unpack_from
        result = []
        for _ in range(count):
            if end - position < 8:
                self.position = position
                self.need(8)
            (length,) = unpack(view, position)
            position += 8
            if length > end - position:
                self.position = position
                self.need(length)
            try:
                result.append(str(view[position : position + length], "utf-8"))
            except UnicodeDecodeError as cause:
                raise self.error("the text is not valid UTF-8", position + cause.start) from None
            position += length
        self.position = position
        return result

    def numbers(self, kind: int, count: int) -> npt.NDArray[Any]:
        """Read ``count`` numbers as a read-only array."""
        dtype = _NUMBERS[kind]
        self.need(count * dtype.itemsize)
        values: npt.NDArray[Any] = np.ndarray(count, dtype, self.view, self.position).copy()
        if kind == _BOOL:
            if count and values.max() > 1:
                position = self.position + int(values.argmax())
                raise self.error("a truth value must be 0 or 1", position)
            values = values.astype(np.bool_)
        self.position += count * dtype.itemsize
        values.setflags(write=False)
        return values

    def value(self, kind: int, depth: int = 0) -> Any:
        """Read one metadata value of the given type code."""
        if kind in _NUMBERS:
            return self.numbers(kind, 1)[0].item()
        if kind == _STRING:
            return self.strings(1)[0]
        if kind == _ARRAY:
            return self._array(depth + 1)
        raise self.error(f"unknown value type {kind}", self.position - 4)

    def _array(self, depth: int) -> Any:
        if depth > MAX_ARRAY_DEPTH:
            raise self.error(f"arrays nested more than {MAX_ARRAY_DEPTH} deep")
        kind = self.u32()
        if kind not in _NUMBERS and kind not in (_STRING, _ARRAY):
            raise self.error(f"unknown array element type {kind}", self.position - 4)
        count = self.u64()
        if kind in _NUMBERS:
            return self.numbers(kind, count)
        # The shortest string is its 8-byte length, the shortest array its type and length.
        self.need(count * (8 if kind == _STRING else 12))
        self._list_elements += count
        self._nested_arrays += count if kind == _ARRAY else 0
        if self._list_elements > MAX_LIST_ELEMENTS or self._nested_arrays > MAX_NESTED_ARRAYS:
            raise self.error(
                f"more than {MAX_LIST_ELEMENTS:,} strings or {MAX_NESTED_ARRAYS:,} arrays "
                "in metadata arrays"
            )
        if kind == _STRING:
            return self.strings(count)
        return [self._array(depth + 1) for _ in range(count)]
