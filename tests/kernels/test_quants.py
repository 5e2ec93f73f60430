"""Decoding of every weight type, held against the gguf package."""

from __future__ import annotations

import gguf
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.kernels.quants import TensorType, block_bytes, block_values, dequantize, row_bytes

ALL_TYPES = list(TensorType)


def reference(tensor_type: TensorType, data: np.ndarray, columns: int) -> np.ndarray:
    rows = data.reshape(-1, row_bytes(tensor_type, columns))
    with np.errstate(all="ignore"):
        return gguf.dequantize(rows, gguf.GGMLQuantizationType(tensor_type.value))


def random_bytes(tensor_type: TensorType, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    size = rows * row_bytes(tensor_type, columns)
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal to the bit, except that one NaN is as good as another."""
    numbers = ~np.isnan(left)
    return np.array_equal(numbers, ~np.isnan(right)) and np.array_equal(
        left[numbers].view(np.uint32), right[numbers].view(np.uint32)
    )


@pytest.mark.parametrize("tensor_type", ALL_TYPES)
def test_codes_and_sizes_are_those_of_the_format(tensor_type):
    theirs = gguf.GGMLQuantizationType(tensor_type.value)
    assert theirs.name == tensor_type.name
    assert gguf.GGML_QUANT_SIZES[theirs] == (block_values(tensor_type), block_bytes(tensor_type))


@pytest.mark.parametrize("tensor_type", ALL_TYPES)
def test_random_blocks_decode_bit_for_bit(tensor_type):
    data = random_bytes(tensor_type, 5, 512)
    values = dequantize(tensor_type, data, (5, 512))
    assert values.dtype == np.float32
    assert np.isfinite(values).mean() > 0.8
    assert same_bits(values, reference(tensor_type, data, 512))


@pytest.mark.parametrize("tensor_type", ALL_TYPES)
def test_tensors_larger_than_one_part_decode_bit_for_bit(tensor_type):
    data = random_bytes(tensor_type, 259, 2048, seed=1)
    values = dequantize(tensor_type, data, (7, 37, 2048))
    assert values.shape == (7, 37, 2048)
    assert same_bits(values.reshape(259, 2048), reference(tensor_type, data, 2048))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_block_decodes_bit_for_bit(data):
    tensor_type = data.draw(st.sampled_from(ALL_TYPES))
    block = data.draw(arrays.arrays(np.uint8, 2 * block_bytes(tensor_type)))
    columns = block_values(tensor_type)
    assert same_bits(
        dequantize(tensor_type, block, (2, columns)), reference(tensor_type, block, columns)
    )


@pytest.mark.parametrize(
    ("tensor_type", "largest_error"),
    [
        (TensorType.F32, 0),
        (TensorType.F16, 5e-4),
        (TensorType.BF16, 4e-3),
        (TensorType.Q4_0, 0.13),
        (TensorType.Q4_1, 0.07),
        (TensorType.Q5_0, 0.07),
        (TensorType.Q5_1, 0.04),
        (TensorType.Q8_0, 5e-3),
    ],
)
def test_quantized_values_come_back_close(tensor_type, largest_error):
    values = np.random.default_rng(2).normal(size=(4, 256)).astype(np.float32)
    stored = gguf.quantize(values, gguf.GGMLQuantizationType(tensor_type.value))
    decoded = dequantize(tensor_type, stored.view(np.uint8).reshape(-1), (4, 256))
    assert np.abs(decoded - values).max() <= largest_error * np.abs(values).max()


def test_views_that_are_unaligned_and_read_only_are_accepted():
    padded = np.zeros(1 + 8 * 4, dtype=np.uint8)
    padded[1:] = np.arange(8, dtype=np.float32).view(np.uint8)
    padded.setflags(write=False)
    assert dequantize(TensorType.F32, padded[1:], (8,)).tolist() == list(range(8))


def test_the_result_is_a_copy():
    data = np.zeros(16, dtype=np.uint8)
    values = dequantize(TensorType.F32, data, (4,))
    values[:] = 1
    assert not data.any()


def test_scalars_and_empty_tensors():
    one = np.float32([1]).view(np.uint8)
    assert dequantize(TensorType.F32, one, ()).shape == ()
    assert dequantize(TensorType.Q4_0, np.empty(0, np.uint8), (0, 64)).shape == (0, 64)


@pytest.mark.parametrize(
    ("tensor_type", "nbytes", "shape"),
    [
        (TensorType.F32, 15, (4,)),
        (TensorType.Q4_0, 18, (2, 32)),
        (TensorType.Q4_0, 18, (16,)),
        (TensorType.Q6_K, 210, (8, 32)),
    ],
)
def test_bytes_that_do_not_fit_the_shape_are_refused(tensor_type, nbytes, shape):
    with pytest.raises(ValueError):
        dequantize(tensor_type, np.zeros(nbytes, dtype=np.uint8), shape)
