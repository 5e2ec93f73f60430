"""The numpy kernels against torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lepton.kernels import reference


@pytest.fixture
def normal():
    generator = np.random.default_rng(3)
    return lambda *shape: generator.standard_normal(shape, dtype=np.float32)


def double(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).double()


def close(found: np.ndarray, expected: torch.Tensor) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-5, atol=2e-6)


def test_linear(normal) -> None:
    x, weight, bias = normal(5, 24), normal(7, 24), normal(7)
    close(reference.linear(x, weight), functional.linear(double(x), double(weight)))
    expected = functional.linear(double(x), double(weight), double(bias))
    close(reference.linear(x, weight, bias), expected)


@pytest.mark.parametrize("shape", [(5, 24), (5, 3, 8)])
def test_rms_norm(normal, shape) -> None:
    x, weight = normal(*shape), normal(shape[-1])
    for offset in (0.0, 1.0):
        expected = functional.rms_norm(double(x), shape[-1:], double(weight) + offset, eps=1e-5)
        close(reference.rms_norm(x, weight, 1e-5, offset), expected)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_is_multiplication_of_complex_numbers(normal, interleaved) -> None:
    x = normal(4, 3, 8)
    positions = np.array([0, 1, 7, 90], np.int32)
    frequencies = np.array([1.0, 0.3, 0.1, 0.01], np.float32)
    found = reference.rotate(x, positions, frequencies, interleaved=interleaved, magnitude=1.5)
    first, second = (x[..., ::2], x[..., 1::2]) if interleaved else (x[..., :4], x[..., 4:])
    angles = positions[:, None, None] * frequencies.astype(np.float64)
    turned = (first + 1j * second.astype(np.float64)) * 1.5 * np.exp(1j * angles)
    parts = [turned.real, turned.imag]
    expected = np.stack(parts, -1).reshape(x.shape) if interleaved else np.concatenate(parts, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 5])
def test_attention(normal, window) -> None:
    positions = np.array([6, 7, 8, 9], np.int32)
    query, key, value = normal(4, 6, 8), normal(10, 2, 8), normal(10, 2, 8)
    distance = positions[:, None] - np.arange(10)
    seen = (distance >= 0) & (distance < (window or 100))
    expected = functional.scaled_dot_product_attention(
        *(double(x).transpose(0, 1) for x in (query, key, value)),
        attn_mask=torch.from_numpy(seen),
        scale=0.3,
        enable_gqa=True,
    ).transpose(0, 1)
    close(reference.attention(query, key, value, positions, scale=0.3, window=window), expected)


def test_activations() -> None:
    x = np.linspace(-20, 20, 401, dtype=np.float32)
    close(reference.silu(x), functional.silu(double(x)))
    close(reference.gelu_tanh(x), functional.gelu(double(x), approximate="tanh"))
    assert np.isfinite(reference.silu(np.array([-1e30, 1e30], np.float32))).all()


def test_bfloat16_rounds_as_torch() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
    values = bits.view(np.float32)
    halfway = np.arange(0x3F808000, 0x3F908000, 0x8000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([values[np.isfinite(values)], halfway, np.zeros(1, np.float32)])
    expected = torch.from_numpy(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(reference.round_to_bfloat16(x), expected)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from([5, 300, 5000]),
    scale=st.sampled_from([0.1, 1.0, 4.0]),
    temperature=st.sampled_from([0.3, 1.0, 1.9]),
    top_k=st.sampled_from([0, 1, 4, 40]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.9]),
    repetition=st.sampled_from([0.8, 1.0, 1.3]),
)
def test_token_probabilities_equal_transformers(
    seed: int,
    size: int,
    scale: float,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition: float,
) -> None:
    logits = scale * np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
    token_ids = [1, 2, 2, 3, 1]
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(repetition)])
    processors.append(TemperatureLogitsWarper(temperature))
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        processors.append(TopPLogitsWarper(top_p))
    if min_p:
        processors.append(MinPLogitsWarper(min_p))
    scores = processors(torch.tensor([token_ids]), torch.tensor(logits[None], dtype=torch.float64))
    expected = torch.softmax(scores, dim=-1)[0].numpy()
    actual = reference.token_probabilities(
        reference.penalize(logits, token_ids, 3, repetition=repetition),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
    )
    # Where the sum meets top_p within rounding, one token more or less is right.
    kept, wanted = np.count_nonzero(actual), np.count_nonzero(expected)
    assert abs(kept - wanted) <= (1 if top_p < 1 else 0)
    if kept == wanted:
        np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_presence_and_frequency_count_generated_tokens_only() -> None:
    logits = np.zeros(6, dtype=np.float32)
    found = reference.penalize(logits, [1, 1, 2, 3, 3, 3], 2, presence=0.5, frequency=0.25)
    assert found.tolist() == [0, 0, -0.75, -1.25, 0, 0]
    assert not logits.any()
