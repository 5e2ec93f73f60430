"""Parse the header of a GGUF file, trusting nothing in it.

Follows https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
Every count, length, offset and product is a Python integer that is compared with the bytes that
are there before anything of that size is built. Memory stays below eight times the header's size.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lepton.errors import ModelFormatError
from lepton.kernels.quants import TensorType, block_values, row_bytes
from lepton.models.weights.checkpoint import TensorInfo
from lepton.models.weights.gguf_cursor import GgufCursor

MAX_METADATA_KEYS = 1 << 16
MAX_TENSORS = 1 << 17
MAX_KEY_BYTES = (1 << 16) - 1
MAX_TENSOR_NAME_BYTES = 256
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20

_MAGIC = b"GGUF"
_DEFAULT_ALIGNMENT = 32
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
        cursor = GgufCursor(view, file)
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


def _read_version(cursor: GgufCursor) -> int:
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


def _read_metadata(cursor: GgufCursor, num_keys: int) -> dict[str, Any]:
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


def _check_value(cursor: GgufCursor, key: str, value: Any, position: int) -> None:
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


def _read_tensor_entries(cursor: GgufCursor, num_tensors: int) -> dict[str, _TensorEntry]:
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


def _read_tensor_entry(cursor: GgufCursor, name: str) -> _TensorEntry:
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


def _tensor_type(cursor: GgufCursor, error: Callable[[str, int], ModelFormatError]) -> TensorType:
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
