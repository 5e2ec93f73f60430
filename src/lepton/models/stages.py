"""The typed stages an architecture is made of.

An architecture file turns a configuration into a list of stages; an executor runs them. Weights are
referred to by the name they have in the checkpoint. A stage is the unit of fusion: an executor may
run everything inside one in whatever order gives the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu_tanh", "gelu", "relu"]
Squash = Literal["none", "tanh", "relu", "gelu", "gelu_tanh", "silu"]
"""What a layer of a head applies to its outputs."""
PoolingKind = Literal["mean", "cls", "last", "weighted", "max"]
"""How the states of a text's tokens become one: their mean, the first, the last, a mean with
weights 1, 2, 3, … from the text's first token, or the largest of each dimension."""


@dataclass(frozen=True)
class Part:
    """Rows ``start`` … ``stop - 1`` of the ``of`` rows that a tensor holds."""

    start: int
    stop: int
    of: int


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ + b with ``weight`` [outputs, inputs] and ``bias`` [outputs].

    Where several maps share one tensor, ``part`` tells the rows of weight and bias.
    """

    weight: str
    bias: str | None = None
    part: Part | None = None


@dataclass(frozen=True)
class RmsNorm:
    """y = x / sqrt(mean(x²) + epsilon) · (weight + offset), arXiv:1910.07467.

    ``offset`` is 1 where the checkpoint stores weight - 1 (Gemma's safetensors).
    """

    weight: str
    epsilon: float
    offset: float = 0.0


@dataclass(frozen=True)
class LayerNorm:
    """y = (x - mean(x)) / sqrt(variance(x) + epsilon) · weight + bias, arXiv:1607.06450."""

    weight: str
    bias: str | None
    epsilon: float


Norm = RmsNorm | LayerNorm


@dataclass(frozen=True)
class Table:
    """Learned vectors ``weight`` [rows, hidden], looked up by a number."""

    weight: str
    rows: int


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
    """Token ids → hidden states [tokens, hidden], multiplied by ``scale``.

    Encoders add a learned vector for the place of a token (row ``position + position_offset`` of
    ``positions``) and one for its kind (``token_types``), and normalize the sum.
    """

    weight: str
    scale: float = 1.0
    positions: Table | None = None
    position_offset: int = 0
    token_types: Table | None = None
    norm: LayerNorm | None = None


@dataclass(frozen=True)
class Attention:
    """x = residual_norm(x + post_norm(output(attend(norm(x))))): self-attention, grouped queries.

    ``scale`` multiplies query·key. ``causal``: a token at position p attends to positions
    max(0, p - window + 1) … p, or 0 … p when ``window`` is None. Otherwise it attends to all
    positions, or those less than ``window`` away. ``query_norm`` and ``key_norm``
    act on each head (weights [head_dim]) before the rotation. Norms that are None do nothing.
    """

    norm: Norm | None
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    rope: Rope | None
    window: int | None = None
    query_norm: RmsNorm | None = None
    key_norm: RmsNorm | None = None
    post_norm: RmsNorm | None = None
    causal: bool = True
    residual_norm: LayerNorm | None = None


@dataclass(frozen=True)
class GatedMlp:
    """x += post_norm(down(activation(gate(norm(x))) · up(norm(x)))), arXiv:2002.05202."""

    norm: Norm | None
    gate: Linear
    up: Linear
    down: Linear
    activation: Activation = "silu"
    post_norm: RmsNorm | None = None


@dataclass(frozen=True)
class Mlp:
    """x = residual_norm(x + down(activation(up(norm(x)))))."""

    norm: Norm | None
    up: Linear
    down: Linear
    activation: Activation = "gelu"
    residual_norm: LayerNorm | None = None


@dataclass(frozen=True)
class FinalNorm:
    """x = norm(x), after the last layer of an encoder."""

    norm: Norm


@dataclass(frozen=True)
class Head:
    """Hidden states → logits [rows, vocab], for the rows that are asked for only."""

    norm: Norm
    output: Linear


Stage = Embed | Attention | GatedMlp | Mlp | FinalNorm | Head


@dataclass(frozen=True)
class Dense:
    """A layer of a classification head: x = norm(activation(linear(x)))."""

    linear: Linear
    activation: Squash = "none"
    norm: LayerNorm | None = None
