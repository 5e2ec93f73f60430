"""The typed stages an architecture is made of.

An architecture file turns a configuration into a list of stages; an executor runs them. Weights are
referred to by the name they have in the checkpoint. A stage is the unit of fusion: an executor may
run everything inside one in whatever order gives the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ + b with ``weight`` [outputs, inputs] and ``bias`` [outputs]."""

    weight: str
    bias: str | None = None


@dataclass(frozen=True)
class RmsNorm:
    """y = x / sqrt(mean(x²) + epsilon) · (weight + offset), arXiv:1910.07467.

    ``offset`` is 1 where the checkpoint stores weight - 1 (Gemma's safetensors).
    """

    weight: str
    epsilon: float
    offset: float = 0.0


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding, arXiv:2104.09864.

    Pair ``i`` of a head turns by ``position * inverse_frequencies[i]`` radians. A pair is elements
    (i, i + d/2) of the head, or (2i, 2i + 1) when ``interleaved`` (Llama weights in GGUF). Cosines
    and sines are multiplied by ``magnitude`` (YaRN's attention factor).
    """

    inverse_frequencies: tuple[float, ...]
    interleaved: bool = False
    magnitude: float = 1.0


@dataclass(frozen=True)
class Embed:
    """Token ids → hidden states [tokens, hidden], multiplied by ``scale``."""

    weight: str
    scale: float = 1.0


@dataclass(frozen=True)
class Attention:
    """x += post_norm(output(attend(norm(x)))): causal self-attention with grouped queries.

    ``scale`` multiplies query·key. A token at position p attends to positions
    max(0, p - window + 1) … p, or 0 … p when ``window`` is None. ``query_norm`` and ``key_norm``
    act on each head (weights [head_dim]) before the rotation.
    """

    norm: RmsNorm
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    rope: Rope
    window: int | None = None
    query_norm: RmsNorm | None = None
    key_norm: RmsNorm | None = None
    post_norm: RmsNorm | None = None


@dataclass(frozen=True)
class GatedMlp:
    """x += post_norm(down(activation(gate(norm(x))) · up(norm(x)))), arXiv:2002.05202."""

    norm: RmsNorm
    gate: Linear
    up: Linear
    down: Linear
    activation: Activation = "silu"
    post_norm: RmsNorm | None = None


@dataclass(frozen=True)
class Head:
    """Hidden states → logits [rows, vocab], for the rows that are asked for only."""

    norm: RmsNorm
    output: Linear


Stage = Embed | Attention | GatedMlp | Head
