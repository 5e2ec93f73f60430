"""The limit of a workload follows from bytes and operations."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.roofline import speed_limit
from bench.shape import read_shape
from bench.workloads import WORKLOADS


def test_one_stream_is_bound_by_reading(shape, limits) -> None:
    cache = (2 * (8 + 64 + 1) + 73) * 256 * 2
    expected = 20e9 / (100_000_000 + cache)
    assert speed_limit(shape, WORKLOADS["decode"], limits) == pytest.approx(expected)


def test_windows_bound_what_is_read_of_a_long_context(shape) -> None:
    position = 8000 + 16 + 1
    cache = (2 * position + 128) * 256 * 2
    assert shape.bytes_read(WORKLOADS["context-8k"]) == 100_000_000 + cache


def test_a_prompt_is_bound_by_computing(shape, limits) -> None:
    weights = 2 * (150_000_000 * 512 + 50_000_000) / 500e9
    visible = 2 * 512 * 513 / 2 + (128 * 129 / 2 + (512 - 128) * 128)
    attention = 4 * 512 * visible / 200e9
    expected = 512 / (weights + attention)
    assert speed_limit(shape, WORKLOADS["prefill-512"], limits) == pytest.approx(expected)


def test_float_weights_are_bound_by_the_float_peak(shape, limits) -> None:
    workload = WORKLOADS["prefill-512"]
    slower = speed_limit(replace(shape, float_weights=True), workload, limits)
    assert slower < speed_limit(shape, workload, limits)


def test_a_tied_embedding_is_read_once_a_step(smollm2_path) -> None:
    shape = read_shape(smollm2_path)
    assert shape.parameters + shape.head_parameters == 134_479_872
    assert shape.weight_bytes < shape.file_bytes < shape.weight_bytes * 1.05
    assert shape.windows == (0,) * 30
    assert not shape.float_weights
