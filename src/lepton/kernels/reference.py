"""Every kernel in plain numpy float32: unhurried and obviously right, what tests compare with."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]
_erfc = np.frompyfunc(math.erfc, 1, 1)


def linear(x: Float32Array, weight: Float32Array, bias: Float32Array | None = None) -> Float32Array:
    """Compute x Wᵀ + b: [rows, inputs], [outputs, inputs], [outputs] → [rows, outputs]."""
    y: Float32Array = x @ weight.T
    return y if bias is None else y + bias


def rms_norm(
    x: Float32Array, weight: Float32Array, epsilon: float, offset: float = 0.0
) -> Float32Array:
    """Compute x / sqrt(mean(x²) + epsilon) · (weight + offset), arXiv:1910.07467."""
    mean_square: Float32Array = np.mean(x * x, axis=-1, keepdims=True)
    deviation: Float32Array = np.sqrt(mean_square + np.float32(epsilon))
    return x / deviation * (weight + np.float32(offset))


def layer_norm(
    x: Float32Array, weight: Float32Array, bias: Float32Array | None, epsilon: float
) -> Float32Array:
    """Compute (x - mean) / sqrt(variance + epsilon) · weight + bias, arXiv:1607.06450."""
    centred: Float32Array = x - np.mean(x, axis=-1, keepdims=True)
    variance: Float32Array = np.mean(centred * centred, axis=-1, keepdims=True)
    y: Float32Array = centred / np.sqrt(variance + np.float32(epsilon)) * weight
    return y if bias is None else y + bias


def rotate(
    x: Float32Array,
    positions: Int32Array,
    inverse_frequencies: Float32Array,
    *,
    interleaved: bool = False,
    magnitude: float = 1.0,
) -> Float32Array:
    """Rotary position embedding of x [rows, heads, d], arXiv:2104.09864.

    Pair i of a head is elements (i, i + d/2), or (2i, 2i + 1) when ``interleaved``; it turns by
    ``positions[row] * inverse_frequencies[i]`` and is multiplied by ``magnitude``.
    """
    angles = positions.astype(np.float32)[:, None] * inverse_frequencies
    cosines = (np.cos(angles) * np.float32(magnitude))[:, None, :]
    sines = (np.sin(angles) * np.float32(magnitude))[:, None, :]
    if interleaved:
        first, second = x[..., 0::2], x[..., 1::2]
    else:
        first, second = np.split(x, 2, axis=-1)
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    if interleaved:
        return np.stack(turned, axis=-1).reshape(x.shape)
    return np.concatenate(turned, axis=-1)


def round_to_bfloat16(x: Float32Array) -> Float32Array:
    """The nearest bfloat16 of finite values, ties to even, still stored as float32."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    odd = (bits >> 16) & 1
    return ((bits + 0x7FFF + odd) & np.uint32(0xFFFF0000)).view(np.float32)


def softmax(x: Float32Array) -> Float32Array:
    """Exponentials of the last axis that sum to one."""
    powers: Float32Array = np.exp(x - x.max(axis=-1, keepdims=True))
    total: Float32Array = powers.sum(axis=-1, keepdims=True)
    return powers / total


def attention(
    query: Float32Array,
    key: Float32Array,
    value: Float32Array,
    positions: Int32Array,
    *,
    scale: float,
    window: int | None = None,
    causal: bool = True,
) -> Float32Array:
    """Attention of one sequence, with grouped queries (arXiv:2305.13245).

    ``query`` [rows, heads, d] stands at ``positions`` [rows]; ``key`` and ``value``
    [length, kv_heads, d] hold positions 0 … length - 1. A row attends to the last ``window``
    positions up to its own, or to all of them. Without ``causal`` it attends to later positions
    too: to those less than ``window`` away on both sides. Query head h uses key/value head
    h // group:

        query heads   0 1 2 | 3 4 5 | 6 7 8        group = heads / kv_heads = 3
        kv heads        0   |   1   |   2

    Returns [rows, heads, d].
    """
    group = query.shape[1] // key.shape[1]
    key, value = np.repeat(key, group, axis=1), np.repeat(value, group, axis=1)
    scores = np.einsum("rhd,lhd->hrl", query, key, optimize=True) * np.float32(scale)
    distance = positions[:, None] - np.arange(key.shape[0])[None, :]
    seen = distance >= 0 if causal else np.ones_like(distance, dtype=bool)
    if window is not None:
        seen &= np.abs(distance) < window
    weights = softmax(np.where(seen, scores, np.float32(-np.inf)))
    mixed: Float32Array = np.einsum("hrl,lhd->rhd", weights, value, optimize=True)
    return mixed


def silu(x: Float32Array) -> Float32Array:
    """Compute x · sigmoid(x), arXiv:1702.03118."""
    small: Float32Array = np.exp(-np.abs(x))
    numerator: Float32Array = np.where(x >= 0, np.float32(1), small)
    return x * (numerator / (1 + small))


def gelu_tanh(x: Float32Array) -> Float32Array:
    """Compute x · Φ(x) with Φ approximated through tanh, arXiv:1606.08415."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    y: Float32Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return y


def gelu(x: Float32Array) -> Float32Array:
    """Compute x · Φ(x), arXiv:1606.08415."""
    phi = np.asarray(_erfc(x.astype(np.float64) * -math.sqrt(0.5)), np.float64) / 2
    y: Float32Array = (x * phi).astype(np.float32)
    return y


def relu(x: Float32Array) -> Float32Array:
    """Compute max(x, 0)."""
    y: Float32Array = np.maximum(x, np.float32(0))
    return y


def penalize(
    logits: Float32Array,
    token_ids: list[int],
    num_prompt_tokens: int,
    *,
    repetition: float = 1.0,
    presence: float = 0.0,
    frequency: float = 0.0,
) -> Float32Array:
    """Penalize the logits [vocab] of tokens that a sequence already holds.

    ``repetition`` (arXiv:1909.05858) weakens every token of prompt and completion; ``presence`` is
    subtracted from every generated token and ``frequency`` for each time it was generated.
    """
    penalized = logits.copy()
    seen = np.unique(token_ids)
    values = penalized[seen]
    penalized[seen] = np.where(values > 0, values / repetition, values * repetition)
    tokens, counts = np.unique(token_ids[num_prompt_tokens:], return_counts=True)
    tokens = tokens.astype(np.int64)
    penalized[tokens] -= (presence + frequency * counts).astype(np.float32)
    return penalized


def token_probabilities(
    logits: Float32Array,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> Float64Array:
    """Probabilities [vocab] that the next token is drawn with, from logits [vocab].

    Keeps the ``top_k`` largest logits and all that equal the last of them (0: every one); of these
    the fewest, largest first and the lower id first among equals, that make up ``top_p`` of the sum
    (arXiv:1904.09751), at least one; of these the ones with at least ``min_p`` of the largest
    (arXiv:2407.01082).
    """
    exact = logits.astype(np.float64)
    weights: Float64Array = np.exp((exact - exact.max()) / max(temperature, 1e-6))
    if 0 < top_k < len(logits):
        weights[exact < np.sort(exact)[-top_k]] = 0
    if top_p < 1:
        order = np.argsort(-weights, kind="stable")
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[1:][before[1:] >= top_p * weights.sum()]] = 0
    weights[weights < min_p] = 0
    weights /= weights.sum()
    return weights
