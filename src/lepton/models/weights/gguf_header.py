"""Parse the header of a GGUF file, trusting nothing in it.

Follows https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
Every count, length and offset is a Python integer that is compared with the bytes that are there
before anything of that size is built, so memory stays within a small multiple of the header.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.errors import ModelFormatError
from lepton.kernels.quants import TensorType, block_values, row_bytes
from lepton.models.weights.checkpoint import TensorInfo

MAX_HEADER_BYTES = 64 << 20
MAX_METADATA_KEYS = 1 << 16
MAX_TENSORS = 1 << 17
MAX_LIST_ELEMENTS = 1 << 21
"""Strings and nested arrays in all metadata arrays together; the largest vocabularies have half
a million tokens and merges."""
MAX_ARRAY_DEPTH = 4
MAX_KEY_BYTES = (1 << 16) - 1
MAX_TENSOR_NAME_BYTES = 256
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20

_MAGIC = b"GGUF"
_DEFAULT_ALIGNMENT = 32
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
# Types that exist but that no kernel here reads, so that the message can name them.
_UNSUPPORTED_TYPES = {
    9: "Q8_1",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    21: "IQ3_S",
    22: "IQ2_S",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
}

Buffer = bytes | bytearray | mmap.mmap


@dataclass(frozen=True)
class GgufHeader:
    """Everything a GGUF file says before its tensor data."""

    version: int
    alignment: int
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    offsets: Mapping[str, int]
    """First byte of each tensor, counted from the start of the file."""


def read_header(data: Buffer, file: object) -> GgufHeader:
    """Parse and check the header of a whole GGUF file.

    Args:
        data: the bytes of the file, or their mapping.
        file: name of the file for error messages.

    Raises:
        ModelFormatError: the file is damaged, or uses what is not supported.
    """
    with memoryview(data) as view:
        cursor = _Cursor(view, file)
        version = _read_version(cursor)
        num_tensors = cursor.count("tensors", MAX_TENSORS)
        num_keys = cursor.count("metadata keys", MAX_METADATA_KEYS)
        metadata = _read_metadata(cursor, num_keys)
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        entries = _read_tensor_entries(cursor, num_tensors)
        data_start = -(-cursor.position // alignment) * alignment
        offsets = _place_tensors(entries, data_start, alignment, len(view), file)
    tensors = {name: entry.info for name, entry in entries.items()}
    return GgufHeader(
        version,
        alignment,
        MappingProxyType(metadata),
        MappingProxyType(tensors),
        MappingProxyType(offsets),
    )


class _Cursor:
    """Reads the header's primitive values in turn and refuses to pass its end."""

    def __init__(self, view: memoryview, file: object) -> None:
        self.view = view
        self.file = file
        self.position = 0
        self.end = min(len(view), MAX_HEADER_BYTES)
        self.list_elements = 0
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
        self.need(4)
        (value,) = _U32.unpack_from(self.view, self.position)
        self.position += 4
        return int(value)

    def u64(self) -> int:
        self.need(8)
        (value,) = _U64.unpack_from(self.view, self.position)
        self.position += 8
        return int(value)

    def count(self, what: str, limit: int) -> int:
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
        self.list_elements += count
        if self.list_elements > MAX_LIST_ELEMENTS:
            raise self.error(f"more than {MAX_LIST_ELEMENTS:,} strings in metadata arrays")
        if kind == _STRING:
            return self.strings(count)
        return [self._array(depth + 1) for _ in range(count)]


def _read_version(cursor: _Cursor) -> int:
    if bytes(cursor.view[:4]) != _MAGIC:
        raise cursor.error(
            f"not a GGUF file: it starts with {bytes(cursor.view[:4])!r}, not {_MAGIC!r}"
        )
    cursor.position = 4
    version = cursor.u32()
    if version in (2, 3):
        return version
    if version in (2 << 24, 3 << 24):
        raise cursor.error("the file is big-endian; convert it to little-endian", 4)
    if version == 1:
        raise cursor.error("GGUF version 1 is obsolete; convert the model again", 4)
    raise cursor.error(f"GGUF version {version} is not supported, only 2 and 3", 4)


def _read_metadata(cursor: _Cursor, num_keys: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(num_keys):
        cursor.place = f"metadata key number {index}"
        start = cursor.position
        key = cursor.name("key", MAX_KEY_BYTES)
        cursor.place = f"metadata key {_shortened(key)}"
        if key in metadata:
            raise cursor.error("the key appears twice", start)
        kind = cursor.u32()
        position = cursor.position
        metadata[key] = cursor.value(kind)
        _check_value(cursor, key, metadata[key], position)
    return metadata


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


def _check_value(cursor: _Cursor, key: str, value: Any, position: int) -> None:
    """Check the two values that say how the file itself is laid out."""
    if key == "general.alignment":
        if type(value) is not int:
            raise cursor.error("it must be a whole number", position)
        # The specification asks for a multiple of 8.
        if not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
            raise cursor.error(
                f"{value:,} is no power of two from 8 to {MAX_ALIGNMENT:,}", position
            )
    elif key == "split.count" and isinstance(value, int) and value > 1:
        raise cursor.error(
            f"the file is one of {value:,} parts of a split model; join them first with "
            "'llama-gguf-split --merge'",
            position,
        )


@dataclass(frozen=True, slots=True)
class _TensorEntry:
    """A tensor's line in the header: what it is, where its data is, where the line is."""

    info: TensorInfo
    offset: int
    offset_position: int


def _read_tensor_entries(cursor: _Cursor, num_tensors: int) -> dict[str, _TensorEntry]:
    entries: dict[str, _TensorEntry] = {}
    for index in range(num_tensors):
        cursor.place = f"tensor number {index}"
        start = cursor.position
        name = cursor.name("name", MAX_TENSOR_NAME_BYTES)
        entry = _read_tensor_entry(cursor, name)
        if name in entries:
            raise ModelFormatError(
                "the tensor appears twice", file=cursor.file, tensor=name, offset=start
            )
        entries[name] = entry
    return entries


def _read_tensor_entry(cursor: _Cursor, name: str) -> _TensorEntry:
    def error(message: str, position: int) -> ModelFormatError:
        return ModelFormatError(message, file=cursor.file, tensor=name, offset=position)

    cursor.place = f"tensor {name!r}"
    dimensions_position = cursor.position
    num_dimensions = cursor.u32()
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise error(
            f"{num_dimensions:,} dimensions, 1 to {MAX_DIMENSIONS} allowed", dimensions_position
        )
    dimensions = [cursor.u64() for _ in range(num_dimensions)]
    if 0 in dimensions:
        raise error("a dimension is zero", dimensions_position + 4 + 8 * dimensions.index(0))
    tensor_type = _tensor_type(cursor, error)
    if dimensions[0] % block_values(tensor_type):
        raise error(
            f"a row of {dimensions[0]:,} values is no whole number of {tensor_type.name} blocks "
            f"of {block_values(tensor_type)}",
            dimensions_position + 4,
        )
    nbytes = row_bytes(tensor_type, dimensions[0]) * math.prod(dimensions[1:])
    offset = cursor.u64()
    # GGUF lists the fastest-varying dimension first, numpy last.
    info = TensorInfo(name, tensor_type, tuple(reversed(dimensions)), nbytes)
    return _TensorEntry(info, offset, cursor.position - 8)


def _tensor_type(cursor: _Cursor, error: Callable[[str, int], ModelFormatError]) -> TensorType:
    code = cursor.u32()
    try:
        return TensorType(code)
    except ValueError:
        name = _UNSUPPORTED_TYPES.get(code)
        what = f"type {name} is not supported" if name else f"unknown type {code}"
        supported = ", ".join(known.name for known in TensorType)
        raise error(f"{what}; supported are {supported}", cursor.position - 4) from None


def _place_tensors(
    entries: Mapping[str, _TensorEntry], data_start: int, alignment: int, size: int, file: object
) -> dict[str, int]:
    """Check that every tensor lies aligned inside the file and none touches another."""
    offsets: dict[str, int] = {}
    for name, entry in entries.items():
        start = data_start + entry.offset
        if entry.offset % alignment:
            raise ModelFormatError(
                f"its data offset {entry.offset:,} is no multiple of the alignment {alignment}",
                file=file,
                tensor=name,
                offset=entry.offset_position,
            )
        if start + entry.info.nbytes > size:
            raise ModelFormatError(
                f"its {entry.info.nbytes:,} bytes of data reach past the end of the file at "
                f"{size:,}; the file is damaged or was not downloaded completely",
                file=file,
                tensor=name,
                offset=start,
            )
        offsets[name] = start
    end, previous = data_start, ""
    for name, start in sorted(offsets.items(), key=lambda item: item[1]):
        if start < end:
            raise ModelFormatError(
                f"its data overlaps that of tensor {previous!r}",
                file=file,
                tensor=name,
                offset=start,
            )
        end, previous = start + entries[name].info.nbytes, name
    return offsets
