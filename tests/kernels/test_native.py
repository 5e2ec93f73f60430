"""The native core against numpy, across instruction sets, batch sizes and types."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.kernels import _native, isa_info, quants
from lepton.kernels.quants import TensorType

POOL = _native.ThreadPool(2)
FLOAT_TYPES = {TensorType.F32, TensorType.F16, TensorType.BF16}
ISAS = isa_info().supported


def random_source(type_: TensorType, rows: int, columns: int, seed: int) -> np.ndarray:
    """Bytes of a random matrix: any bit pattern for the codes, moderate f16 factors."""
    rng = np.random.default_rng(seed)
    if type_ in FLOAT_TYPES:
        values = rng.standard_normal((rows, columns)).astype(np.float32)
        if type_ is TensorType.F16:
            return values.astype(np.float16).view(np.uint8).reshape(-1)
        if type_ is TensorType.BF16:
            return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(-1)
        return values.view(np.uint8).reshape(-1)
    unit = quants.block_bytes(type_)
    blocks = rng.integers(
        0, 256, (rows * columns // quants.block_values(type_), unit), dtype=np.uint8
    )
    factors = {
        TensorType.Q2_K: (80, 82),
        TensorType.Q3_K: (108,),
        TensorType.Q6_K: (208,),
        TensorType.Q4_1: (0, 2),
        TensorType.Q5_1: (0, 2),
        TensorType.Q4_K: (0, 2),
        TensorType.Q5_K: (0, 2),
    }.get(type_, (0,))
    for at in factors:
        scale = rng.uniform(-0.05, 0.05, len(blocks)).astype(np.float16)
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(-1)


def random_matrix(
    type_: TensorType, rows: int, columns: int, seed: int = 0
) -> tuple[_native.Matrix, np.ndarray]:
    source = random_source(type_, rows, columns, seed)
    dense = quants.dequantize(type_, source, (rows, columns))
    return _native.Matrix(int(type_), rows, columns, source, POOL), dense


def represented(inputs: np.ndarray, precision: str) -> np.ndarray:
    """What int8 activations in groups of 32 stand for, coded in float32 as the kernels do."""
    groups = inputs.reshape(len(inputs), -1, 32)
    largest = np.abs(groups).max(axis=2, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    scaled = groups * inverse
    first = np.rint(scaled)
    second = np.rint(np.minimum((scaled - first) * np.float32(256), 127))
    if precision == "fast":
        steps = largest.astype(np.float64) ** 2
        second *= steps >= 8 * steps.mean(axis=1, keepdims=True)
    codes = first.astype(np.float64) + second.astype(np.float64) / 256
    return (codes * (largest / np.float32(127))).reshape(inputs.shape)


def random_inputs(rows: int, columns: int) -> np.ndarray:
    """Activations of which each row has a few blocks larger than the others."""
    rng = np.random.default_rng(rows)
    inputs = rng.standard_normal((rows, columns // 32, 32))
    inputs *= np.where(rng.random((rows, columns // 32, 1)) < 0.1, 20, 1)
    return inputs.reshape(rows, columns).astype(np.float32)


@pytest.mark.parametrize("type_", list(TensorType))
@pytest.mark.parametrize("rows", [1, 16, 37])
def test_packing_is_exact(type_: TensorType, rows: int) -> None:
    matrix, dense = random_matrix(type_, rows, 768)
    np.testing.assert_array_equal(matrix.unpack(), dense)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("type_", list(TensorType))
def test_products_match_float64(type_: TensorType, isa: str) -> None:
    matrix, dense = random_matrix(type_, 37, 512)
    inputs = random_inputs(7, 512)
    scale = np.abs(inputs).astype(np.float64) @ np.abs(dense).T.astype(np.float64)
    if type_ in FLOAT_TYPES:
        expected = inputs.astype(np.float64) @ dense.T.astype(np.float64)
        error = np.abs(_native.multiply(matrix, inputs, isa=isa) - expected)
        assert (error / scale).max() < 1e-6
        return
    for precision in ("fast", "exact"):
        expected = represented(inputs, precision) @ dense.T.astype(np.float64)
        error = np.abs(_native.multiply(matrix, inputs, precision, isa) - expected)
        assert (error / scale).max() < 1e-6


@pytest.mark.parametrize("type_", list(TensorType))
@pytest.mark.parametrize("precision", ["fast", "exact"])
def test_instruction_sets_agree_to_the_bit(type_: TensorType, precision: str) -> None:
    matrix, _ = random_matrix(type_, 50, 512)
    inputs = random_inputs(70, 512)
    expected = _native.multiply(matrix, inputs, precision, isa="scalar")
    for isa in ISAS:
        for rows in (5, 70):
            actual = _native.multiply(matrix, inputs[:rows], precision, isa=isa)
            np.testing.assert_array_equal(actual, expected[:rows], err_msg=isa)


@pytest.mark.parametrize("type_", list(TensorType))
@pytest.mark.parametrize("precision", ["fast", "exact"])
def test_a_row_does_not_depend_on_its_batch(type_: TensorType, precision: str) -> None:
    matrix, _ = random_matrix(type_, 33, 512)
    inputs = random_inputs(70, 512)
    alone = np.concatenate(
        [_native.multiply(matrix, inputs[i : i + 1], precision) for i in range(70)]
    )
    for size in (2, 7, 64, 70):
        together = _native.multiply(matrix, inputs[:size], precision)
        np.testing.assert_array_equal(together, alone[:size])


@settings(max_examples=60, deadline=None)
@given(
    type_=st.sampled_from([TensorType.F32, TensorType.F16, TensorType.BF16]),
    rows=st.integers(1, 40),
    columns=st.integers(1, 70),
    inputs=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_odd_shapes_of_float_weights(
    type_: TensorType, rows: int, columns: int, inputs: int, seed: int
) -> None:
    matrix, dense = random_matrix(type_, rows, columns, seed)
    x = np.random.default_rng(seed).standard_normal((inputs, columns)).astype(np.float32)
    np.testing.assert_allclose(_native.multiply(matrix, x), x @ dense.T, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    type_=st.sampled_from([t for t in TensorType if t not in FLOAT_TYPES]),
    rows=st.integers(1, 40),
    blocks=st.integers(1, 5),
    inputs=st.integers(1, 70),
    seed=st.integers(0, 2**31),
)
def test_odd_shapes_of_quantized_weights(
    type_: TensorType, rows: int, blocks: int, inputs: int, seed: int
) -> None:
    columns = blocks * quants.block_values(type_)
    matrix, dense = random_matrix(type_, rows, columns, seed)
    x = np.random.default_rng(seed).standard_normal((inputs, columns)).astype(np.float32)
    expected = represented(x, "exact") @ dense.T.astype(np.float64)
    scale = np.abs(x) @ np.abs(dense).T + 1e-6
    assert (np.abs(_native.multiply(matrix, x) - expected) / scale).max() < 1e-6


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("type_", [TensorType.Q8_0, TensorType.Q4_0, TensorType.Q6_K])
def test_extreme_codes_do_not_saturate(type_: TensorType, isa: str) -> None:
    columns = 256
    per_row = quants.row_bytes(type_, columns)
    one = np.float16(1).view(np.uint16).tobytes()
    fill = {TensorType.Q8_0: 0x80, TensorType.Q4_0: 0xFF, TensorType.Q6_K: 0xFF}[type_]
    source = np.full(16 * per_row, fill, np.uint8)
    if type_ is TensorType.Q6_K:
        blocks = source.reshape(16, 210)
        blocks[:, 192:208] = 0x7F
        blocks[:, 208:210] = np.frombuffer(one, np.uint8)
    else:
        blocks = source.reshape(-1, quants.block_bytes(type_))
        blocks[:, :2] = np.frombuffer(one, np.uint8)
    matrix = _native.Matrix(int(type_), 16, columns, source, POOL)
    dense = quants.dequantize(type_, source, (16, columns)).astype(np.float64)
    inputs = np.where(np.arange(columns) % 3 == 0, -127.0, 127.0).astype(np.float32)[None]
    np.testing.assert_array_equal(_native.multiply(matrix, inputs, isa=isa), inputs @ dense.T)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("type_", [TensorType.Q4_1, TensorType.Q8_0, TensorType.Q6_K])
def test_zero_and_tiny_inputs(type_: TensorType, isa: str) -> None:
    matrix, dense = random_matrix(type_, 16, 256)
    zeros = np.zeros((1, 256), np.float32)
    assert not _native.multiply(matrix, zeros, isa=isa).any()
    tiny = np.full((1, 256), 1e-30, np.float32)
    expected = tiny.astype(np.float64) @ dense.T
    np.testing.assert_allclose(_native.multiply(matrix, tiny, isa=isa), expected, rtol=1e-3)
    below = np.full((1, 256), 2e-37, np.float32)
    assert not _native.multiply(matrix, below, isa=isa).any()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("type_", [TensorType.Q4_1, TensorType.Q8_0, TensorType.F32])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_in_its_row_alone(type_: TensorType, isa: str, bad: float) -> None:
    matrix, _ = random_matrix(type_, 16, 128)
    inputs = np.random.default_rng(4).standard_normal((3, 128)).astype(np.float32)
    clean = _native.multiply(matrix, inputs, isa=isa)
    for place in (0, 15, 16, 31, 77):
        spoilt = inputs.copy()
        spoilt[1, place] = bad
        result = _native.multiply(matrix, spoilt, isa=isa)
        assert not np.isfinite(result[1]).any()
        np.testing.assert_array_equal(result[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("rows", [1, 16, 37])
def test_splitting_is_exact_and_takes_no_memory(rows: int) -> None:
    source = random_source(TensorType.Q8_0, rows, 96, seed=5)
    code = int(TensorType.Q8_0)
    whole = _native.Matrix(code, rows, 96, source, POOL)
    split = _native.Matrix(code, rows, 96, source, POOL, split=True)
    assert split.nbytes == whole.nbytes == _native.packed_bytes(code, rows, 96)
    np.testing.assert_array_equal(split.unpack(), whole.unpack())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["fast", "exact"])
def test_split_products_are_those_of_the_whole(isa: str, precision: str) -> None:
    source = random_source(TensorType.Q8_0, 53, 352, seed=6)
    whole = _native.Matrix(int(TensorType.Q8_0), 53, 352, source, POOL)
    split = _native.Matrix(int(TensorType.Q8_0), 53, 352, source, POOL, split=True)
    inputs = random_inputs(70, 352)
    for count in (1, 2, 3, 4, 5, 7, 64, 70):
        np.testing.assert_array_equal(
            _native.multiply(split, inputs[:count], precision, isa),
            _native.multiply(whole, inputs[:count], precision, isa),
        )


def test_matrices_check_their_source() -> None:
    with pytest.raises(ValueError, match="Q8_0 can be split"):
        _native.Matrix(int(TensorType.Q4_0), 16, 64, split=True)
    with pytest.raises(ValueError, match="size of the matrix"):
        _native.Matrix(int(TensorType.Q4_0), 16, 64, np.zeros(7, np.uint8), POOL)
    with pytest.raises(ValueError, match="multiple of 256"):
        _native.Matrix(int(TensorType.Q4_K), 16, 64, np.zeros(64, np.uint8), POOL)
    with pytest.raises(ValueError, match="unknown tensor type"):
        _native.Matrix(9, 16, 64, np.zeros(64, np.uint8), POOL)
    with pytest.raises(ValueError, match="too large"):
        _native.Matrix(0, 2**31, 2**31, np.zeros(0, np.uint8), POOL)
    with pytest.raises(ValueError, match="between 1 and"):
        _native.Matrix(0, 0, 64, np.zeros(0, np.uint8), POOL)


def test_isa_can_be_forced_by_environment() -> None:
    script = "from lepton.kernels import isa_info; print(isa_info().selected)"
    environment = {**os.environ, "LEPTON_ISA": "scalar"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "scalar"
    environment["LEPTON_ISA"] = "mmx"
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "ConfigurationError" in run.stderr
    assert "'mmx'" in run.stderr


def test_pool_survives_fork() -> None:
    _native.Matrix(0, 4096, 16, np.zeros(4096 * 64, np.uint8), POOL)
    child = os.fork()
    if child == 0:
        source = np.arange(4096 * 16, dtype=np.float32)
        matrix = _native.Matrix(0, 4096, 16, source.view(np.uint8), POOL)
        os._exit(0 if np.array_equal(matrix.unpack().reshape(-1), source) else 1)
    assert os.waitpid(child, 0)[1] == 0
