"""Weight types of GGUF files: their sizes and their exact decoding to float32, in numpy.

A quantized row is a run of blocks of 32 or 256 values. The type codes are those of the GGUF
specification (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), the block layouts
those that ggml defines for each code. Integers are little-endian and scales are float16; the
products are taken in float32 in the order given here, which makes the result exact to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class TensorType(IntEnum):
    """How the values of a tensor are stored, with the code that GGUF gives each way."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    IQ4_NL = 20
    IQ4_XS = 23
    BF16 = 30


def block_values(tensor_type: TensorType) -> int:
    """Return how many values one block of the type holds."""
    return _LAYOUTS[tensor_type].values


def block_bytes(tensor_type: TensorType) -> int:
    """Return how many bytes one block of the type takes."""
    return _LAYOUTS[tensor_type].nbytes


def row_bytes(tensor_type: TensorType, columns: int) -> int:
    """Return the bytes of a row of ``columns`` values.

    Raises:
        ValueError: if the row is no whole number of blocks.
    """
    layout = _LAYOUTS[tensor_type]
    blocks, rest = divmod(columns, layout.values)
    if columns < 0 or rest:
        raise ValueError(
            f"a row of {columns} values is no whole number of {tensor_type.name} blocks "
            f"of {layout.values}"
        )
    return blocks * layout.nbytes


def dequantize(tensor_type: TensorType, data: Bytes, shape: Sequence[int]) -> Floats:
    """Decode stored bytes to float32.

    Args:
        tensor_type: how ``data`` is stored.
        data: uint8 ``[nbytes]``, rows one after another.
        shape: shape of the result; its last axis is the row.

    Returns:
        A new float32 array of ``shape``.

    Raises:
        ValueError: if the bytes are not exactly those of such a tensor.
    """
    layout = _LAYOUTS[tensor_type]
    expected = math.prod(shape[:-1]) * row_bytes(tensor_type, shape[-1] if shape else 1)
    if data.dtype != np.uint8 or data.ndim != 1 or data.size != expected:
        raise ValueError(
            f"a {tensor_type.name} tensor of shape {tuple(shape)} takes {expected} bytes, "
            f"not {data.dtype} of shape {data.shape}"
        )
    blocks = data.reshape(-1, layout.nbytes)
    result = np.empty((len(blocks), layout.values), dtype=np.float32)
    step = max(1, _VALUES_AT_ONCE // layout.values)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(blocks), step):
            part = slice(start, start + step)
            result[part] = layout.decode(blocks[part]).reshape(-1, layout.values)
    return result.reshape(tuple(shape))


# Bounds the temporaries of a decoder to a few megabytes, whatever the tensor's size.
_VALUES_AT_ONCE = 1 << 18

_NONLINEAR_4_BIT = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)


def _half(blocks: Bytes, start: int) -> Floats:
    """Read the float16 at byte ``start`` of every block as float32 ``[blocks, 1]``."""
    return blocks[:, start : start + 2].copy().view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """Split bytes ``[..., n]`` into ``[..., 2, n]``: low nibbles first, then high nibbles."""
    return np.stack((packed & 0x0F, packed >> 4), axis=-2)


def _bits(word_bytes: Bytes) -> Bytes:
    """Spread bytes ``[blocks, n]`` into single bits ``[blocks, 8 n]``, lowest bit first."""
    return np.unpackbits(word_bytes, axis=-1, bitorder="little")


def _pairs_of_bits(packed: Bytes) -> Bytes:
    """Split bytes ``[..., n]`` into four 2-bit planes ``[..., 4, n]``, lowest bits first."""
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    return (packed[..., None, :] >> shifts) & np.uint8(3)


def _f32(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view("<f4").astype(np.float32, copy=False)


def _f16(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    upper_half = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32)
    return (upper_half << 16).view(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    """Scale, 32 nibbles; a value is scale times (nibble - 8)."""
    codes = _nibbles(blocks[:, 2:]).reshape(-1, 32)
    return _half(blocks, 0) * (codes.astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    """Scale, minimum, 32 nibbles; a value is scale times nibble plus minimum."""
    codes = _nibbles(blocks[:, 4:]).reshape(-1, 32)
    return _half(blocks, 0) * codes.astype(np.float32) + _half(blocks, 2)


def _q5_codes(nibble_bytes: Bytes, fifth_bits: Bytes) -> Floats:
    codes = _nibbles(nibble_bytes).reshape(-1, 32) | (_bits(fifth_bits) << 4)
    return codes.astype(np.float32)


def _q5_0(blocks: Bytes) -> Floats:
    """Scale, 32 fifth bits, 32 nibbles; a value is scale times (code - 16)."""
    return _half(blocks, 0) * (_q5_codes(blocks[:, 6:], blocks[:, 2:6]) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    """Scale, minimum, 32 fifth bits, 32 nibbles; a value is scale times code plus minimum."""
    return _half(blocks, 0) * _q5_codes(blocks[:, 8:], blocks[:, 4:8]) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    """Scale, 32 signed bytes; a value is scale times byte."""
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q2_k(blocks: Bytes) -> Floats:
    """16 groups of 16 with 4-bit scale and minimum, 2-bit codes, two float16 super-scales."""
    scale = _half(blocks, 80) * (blocks[:, :16] & 0x0F).astype(np.float32)
    minimum = _half(blocks, 82) * (blocks[:, :16] >> 4).astype(np.float32)
    codes = _pairs_of_bits(blocks[:, 16:80].reshape(-1, 2, 32)).reshape(-1, 16, 16)
    return scale[:, :, None] * codes.astype(np.float32) - minimum[:, :, None]


def _q3_k(blocks: Bytes) -> Floats:
    """16 groups of 16 with signed 6-bit scale; 3-bit codes whose third bit, clear, means -4."""
    low_scales = _nibbles(blocks[:, 96:104]).reshape(-1, 16)
    high_scales = _pairs_of_bits(blocks[:, 104:108]).reshape(-1, 16)
    group_scales = (low_scales | (high_scales << 4)).astype(np.float32) - 32
    scale = _half(blocks, 108) * group_scales
    low_codes = _pairs_of_bits(blocks[:, 32:96].reshape(-1, 2, 32)).reshape(-1, 256)
    third_bits = _bit_planes(blocks[:, :32]).reshape(-1, 256)
    codes = (low_codes | (third_bits << 2)).astype(np.float32) - 4
    return scale[:, :, None] * codes.reshape(-1, 16, 16)


def _bit_planes(packed: Bytes) -> Bytes:
    """Split bytes ``[blocks, n]`` into eight bit planes ``[blocks, 8, n]``, lowest bit first."""
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    return (packed[:, None, :] >> shifts) & np.uint8(1)


def _packed_scales(packed: Bytes) -> tuple[Floats, Floats]:
    """Unpack the 12 bytes of eight 6-bit scales and eight 6-bit minimums, each ``[blocks, 8]``.

    Bytes 0-3 and 4-7 hold scales 0-3 and minimums 0-3 in their lower six bits. Numbers 4-7 have
    their lower four bits in the nibbles of bytes 8-11 and their upper two in the top of bytes 0-7.
    """
    first, second, nibbles = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate((first & 63, (nibbles & 0x0F) | (first >> 6 << 4)), axis=1)
    minimums = np.concatenate((second & 63, (nibbles >> 4) | (second >> 6 << 4)), axis=1)
    return scales.astype(np.float32), minimums.astype(np.float32)


def _scaled_and_shifted(blocks: Bytes, codes: Bytes) -> Floats:
    """Apply the scales and minimums in bytes 0-15 of Q4_K and Q5_K to codes ``[blocks, 8, 32]``."""
    scales, minimums = _packed_scales(blocks[:, 4:16])
    scale, minimum = _half(blocks, 0) * scales, _half(blocks, 2) * minimums
    return scale[:, :, None] * codes.astype(np.float32) - minimum[:, :, None]


def _q4_k(blocks: Bytes) -> Floats:
    """8 groups of 32 with 6-bit scale and minimum, 4-bit codes, two float16 super-scales."""
    codes = _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return _scaled_and_shifted(blocks, codes)


def _q5_k(blocks: Bytes) -> Floats:
    """As Q4_K, with a fifth bit: bit g of byte i belongs to value i of group g."""
    codes = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return _scaled_and_shifted(blocks, codes | (_bit_planes(blocks[:, 16:48]) << np.uint8(4)))


def _q6_k(blocks: Bytes) -> Floats:
    """16 groups of 16 with signed 8-bit scale; a value is scale times (6-bit code - 32)."""
    # A half of 128 values: nibbles of 64 bytes (low, then high) below 2-bit planes of 32 bytes.
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 256)
    high = _pairs_of_bits(blocks[:, 128:192].reshape(-1, 2, 32)).reshape(-1, 256)
    codes = (low | (high << 4)).astype(np.float32) - 32
    scale = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return scale[:, :, None] * codes.reshape(-1, 16, 16)


def _iq4_nl(blocks: Bytes) -> Floats:
    """Scale, 32 nibbles that index a table of unevenly spaced values."""
    codes = _nibbles(blocks[:, 2:]).reshape(-1, 32)
    return _half(blocks, 0) * _NONLINEAR_4_BIT[codes]


def _iq4_xs(blocks: Bytes) -> Floats:
    """8 groups of 32 as in IQ4_NL, with a signed 6-bit scale each and a float16 super-scale."""
    high = _pairs_of_bits(blocks[:, 2:4]).swapaxes(1, 2).reshape(-1, 8)
    low = _nibbles(blocks[:, 4:8]).swapaxes(1, 2).reshape(-1, 8)
    scale = _half(blocks, 0) * ((low | (high << 4)).astype(np.float32) - 32)
    codes = _nibbles(blocks[:, 8:].reshape(-1, 8, 16)).reshape(-1, 8, 32)
    return scale[:, :, None] * _NONLINEAR_4_BIT[codes]


@dataclass(frozen=True)
class _Layout:
    """Size of a block, and the function from blocks ``[n, nbytes]`` to n * values floats."""

    values: int
    nbytes: int
    decode: Callable[[Bytes], Floats]


_LAYOUTS = {
    TensorType.F32: _Layout(1, 4, _f32),
    TensorType.F16: _Layout(1, 2, _f16),
    TensorType.BF16: _Layout(1, 2, _bf16),
    TensorType.Q4_0: _Layout(32, 18, _q4_0),
    TensorType.Q4_1: _Layout(32, 20, _q4_1),
    TensorType.Q5_0: _Layout(32, 22, _q5_0),
    TensorType.Q5_1: _Layout(32, 24, _q5_1),
    TensorType.Q8_0: _Layout(32, 34, _q8_0),
    TensorType.Q2_K: _Layout(256, 84, _q2_k),
    TensorType.Q3_K: _Layout(256, 110, _q3_k),
    TensorType.Q4_K: _Layout(256, 144, _q4_k),
    TensorType.Q5_K: _Layout(256, 176, _q5_k),
    TensorType.Q6_K: _Layout(256, 210, _q6_k),
    TensorType.IQ4_NL: _Layout(32, 18, _iq4_nl),
    TensorType.IQ4_XS: _Layout(256, 136, _iq4_xs),
}
