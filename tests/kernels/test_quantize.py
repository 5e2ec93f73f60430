"""Float weights that are quantized while they are packed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.kernels import _native, isa_info
from lepton.kernels.quants import TensorType

POOL = _native.ThreadPool(2)
Q8_0, Q5_1, Q4_1 = TensorType.Q8_0, TensorType.Q5_1, TensorType.Q4_1
TARGETS = [Q8_0, Q5_1, Q4_1]
FLOATS = {TensorType.F32: np.float32, TensorType.F16: np.float16}


def quantized(weights: np.ndarray, into: TensorType, isa: str = "") -> np.ndarray:
    """What float32, float16 or (as uint16) bfloat16 weights are once they are packed."""
    kinds = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.uint16): 30}
    matrix = _native.Matrix(int(into), *weights.shape)
    matrix.pack_rows(0, kinds[weights.dtype], weights.view(np.uint8).reshape(-1), POOL, isa=isa)
    return matrix.unpack()


def blocks(weights: np.ndarray) -> np.ndarray:
    return weights.reshape(-1, 32).astype(np.float64)


def plain_error(weights: np.ndarray, largest_code: int) -> np.ndarray:
    """Squared error of each block when the codes span exactly its range."""
    x = blocks(weights)
    low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
    step = np.where(high > low, (high - low) / largest_code, 1)
    return ((np.rint((x - low) / step) * step + low - x) ** 2).sum(axis=1)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 5).map(lambda count: 32 * count),
    scale=st.sampled_from([1e-4, 0.02, 1.0, 300.0]),
    shift=st.sampled_from([0.0, 0.5, -3.0]),
    seed=st.integers(0, 2**31),
)
def test_errors_are_bounded(rows: int, columns: int, scale: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = (scale * (rng.standard_t(4, (rows, columns)) + shift)).astype(np.float32)
    x = blocks(weights)
    error = np.abs(blocks(quantized(weights, Q8_0)) - x).max(axis=1)
    largest = np.abs(x).max(axis=1)
    # Half a step, and what rounding the scale to f16 moves the largest codes by.
    assert (error <= largest * (0.5 / 127 + 2**-11) + 127 * 2**-25).all()
    for into, largest_code in ((Q4_1, 15), (Q5_1, 31)):
        error = np.linalg.norm(blocks(quantized(weights, into)) - x, axis=1)
        plain = np.sqrt(plain_error(weights, largest_code))
        # Factors are rounded to f16: to 11 bits, or to 2^-24 where they are subnormal.
        rounding = 1e-3 * np.linalg.norm(x, axis=1) + 32**0.5 * (largest_code + 1) * 2**-25
        assert (error <= 1.01 * plain + rounding).all()


def test_the_search_saves_a_tenth_of_the_error() -> None:
    weights = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
    error = ((quantized(weights, Q4_1) - weights) ** 2).sum()
    assert error < 0.9 * plain_error(weights, 15).sum()


@pytest.mark.parametrize("into", TARGETS)
def test_every_instruction_set_makes_the_same_weights(into: TensorType) -> None:
    weights = np.random.default_rng(1).standard_normal((37, 320)).astype(np.float32)
    expected = quantized(weights, into, isa="scalar")
    for isa in isa_info().supported:
        np.testing.assert_array_equal(quantized(weights, into, isa=isa), expected)


@pytest.mark.parametrize("into", TARGETS)
def test_the_type_of_the_source_does_not_matter(into: TensorType) -> None:
    # Eight significant bits fit all three types.
    weights = np.random.default_rng(2).integers(-255, 256, (20, 96)).astype(np.float32) / 64
    expected = quantized(weights, into)
    upper = (weights.view(np.uint32) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(quantized(weights.astype(np.float16), into), expected)
    np.testing.assert_array_equal(quantized(upper, into), expected)


def test_what_the_types_can_hold_is_kept() -> None:
    for value in (0.0, 1.5, -0.25):
        constant = np.full((3, 64), value, np.float32)
        np.testing.assert_array_equal(quantized(constant, Q4_1), constant)
    codes = np.random.default_rng(3).integers(0, 16, (16, 128))
    codes[:, ::32], codes[:, 1::32] = 0, 15
    line = (codes * 0.125 - 0.5).astype(np.float32)
    np.testing.assert_array_equal(quantized(line, Q4_1), line)
    codes = np.random.default_rng(4).integers(-127, 128, (16, 128))
    codes[:, ::32] = 127
    whole = (codes * 0.0625).astype(np.float32)
    np.testing.assert_array_equal(quantized(whole, Q8_0), whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("into", TARGETS)
def test_what_cannot_be_coded_shows_in_its_block_alone(into: TensorType, bad: float) -> None:
    weights = np.random.default_rng(5).standard_normal((17, 96)).astype(np.float32)
    clean = quantized(weights, into)
    for place in (32, 33, 63):
        spoilt = weights.copy()
        spoilt[16, place] = bad
        result = quantized(spoilt, into)
        assert not np.isfinite(result[16, 32:64]).any()
        result[16, 32:64] = clean[16, 32:64]
        np.testing.assert_array_equal(result, clean)


def test_rows_are_packed_in_whole_panels_of_types_that_fit() -> None:
    matrix = _native.Matrix(int(Q8_0), 40, 64)
    weights = np.zeros((40, 64), np.float32).view(np.uint8).reshape(-1)
    row = 64 * 4
    for first, count in ((0, 40), (16, 24), (16, 16)):
        matrix.pack_rows(first, 0, weights[: count * row], POOL)
    for first, count in ((8, 16), (0, 24), (32, 16), (48, 0)):
        with pytest.raises(ValueError, match=r"panels of 16|size of the matrix"):
            matrix.pack_rows(first, 0, weights[: count * row], POOL)
    with pytest.raises(ValueError, match="size of the matrix"):
        matrix.pack_rows(0, 0, weights[: 16 * row + 1], POOL)
    with pytest.raises(ValueError, match="cannot become"):
        matrix.pack_rows(0, int(Q4_1), weights[: 16 * 40], POOL)
    with pytest.raises(ValueError, match="cannot become"):
        _native.Matrix(int(TensorType.Q4_0), 16, 64).pack_rows(0, 0, weights[: 16 * row], POOL)
