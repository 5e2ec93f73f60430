"""The stages that text networks of our own are made of, and the four architectures.

A network is a list of stages over padded token ids [texts, tokens]; hidden states are float32
[texts, tokens, width], zero beyond a text's end, so that a text's result does not depend on what it
is batched with. `numpy_executor` runs them, `torch_executor` trains them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lepton.training.config import WIDTH, Method, TrainingConfig

CONV_WIDTHS = (2, 3, 4)
POSITIONS_SCALE = 0.02


@dataclass(frozen=True)
class Embed:
    """Token ids to vectors: ``weight`` [vocabulary, width], plus ``positions`` [tokens, width]."""

    weight: str
    positions: str | None = None


@dataclass(frozen=True)
class Conv:
    """ReLU of convolutions over neighbouring tokens, side by side (arXiv:1408.5882).

    For each (name, width): ``name_weight`` [channels, width · inputs] and ``name_bias`` [channels];
    the window of a token reaches (width - 1) // 2 to its left.
    """

    branches: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Lstm:
    """A bidirectional LSTM, forward and backward states side by side.

    For each direction d of ``forward`` and ``backward``: ``name_d_input`` [4 · units, inputs],
    ``name_d_hidden`` [4 · units, units], ``name_d_bias`` [4 · units]; gates in the order input,
    forget, cell, output.
    """

    name: str
    units: int


@dataclass(frozen=True)
class SelfAttention:
    """x += output(attend(norm(x))), every token to all tokens of its text (arXiv:1706.03762)."""

    name: str
    heads: int


@dataclass(frozen=True)
class FeedForward:
    """x += down(gelu(up(norm(x)))), GELU in its tanh form."""

    name: str


@dataclass(frozen=True)
class Norm:
    """Layer normalisation of each token's vector, with epsilon 1e-5."""

    name: str


@dataclass(frozen=True)
class Pool:
    """The states of a text's tokens to one vector: their mean or their maximum."""

    kind: Literal["mean", "max"]


@dataclass(frozen=True)
class Head:
    """Vectors to scores: ``weight`` [outputs, width], ``bias`` [outputs]."""

    weight: str
    bias: str


Stage = Embed | Conv | Lstm | SelfAttention | FeedForward | Norm | Pool | Head
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Network:
    """Stages and the shapes of their parameters."""

    stages: tuple[Stage, ...]
    shapes: Shapes


def build(method: Method, config: TrainingConfig, vocabulary: int, outputs: int) -> Network:
    """The stages of ``bag``, ``cnn``, ``bilstm`` or ``transformer``."""
    width, max_tokens = config.width or WIDTH, config.max_tokens or 1
    shapes: Shapes = {"embed": (vocabulary, width)}
    stages: list[Stage] = [Embed("embed")]
    pooled = width
    if method == "bag":
        stages.append(Pool("mean"))
    elif method == "cnn":
        branches = tuple((f"conv{size}", size) for size in CONV_WIDTHS)
        for name, size in branches:
            shapes |= {f"{name}_weight": (width, size * width), f"{name}_bias": (width,)}
        stages += [Conv(branches), Pool("max")]
        pooled = width * len(branches)
    elif method == "bilstm":
        units = width
        for direction in ("forward", "backward"):
            shapes |= {
                f"lstm_{direction}_input": (4 * units, width),
                f"lstm_{direction}_hidden": (4 * units, units),
                f"lstm_{direction}_bias": (4 * units,),
            }
        stages += [Lstm("lstm", units), Pool("max")]
        pooled = 2 * units
    else:
        stages = [Embed("embed", "positions")]
        shapes["positions"] = (max_tokens, width)
        for layer in range(config.layers):
            shapes |= _layer_shapes(f"layer{layer}", width, config.feed_forward)
            stages += [
                SelfAttention(f"layer{layer}_attention", config.heads),
                FeedForward(f"layer{layer}_mlp"),
            ]
        shapes |= _norm_shapes("norm", width)
        stages += [Norm("norm"), Pool("mean")]
    shapes |= {"head_weight": (outputs, pooled), "head_bias": (outputs,)}
    stages.append(Head("head_weight", "head_bias"))
    return Network(tuple(stages), shapes)


def _layer_shapes(name: str, width: int, feed_forward: int) -> Shapes:
    attention, mlp = f"{name}_attention", f"{name}_mlp"
    return {
        **_norm_shapes(f"{attention}_norm", width),
        f"{attention}_qkv_weight": (3 * width, width),
        f"{attention}_qkv_bias": (3 * width,),
        f"{attention}_output_weight": (width, width),
        f"{attention}_output_bias": (width,),
        **_norm_shapes(f"{mlp}_norm", width),
        f"{mlp}_up_weight": (feed_forward, width),
        f"{mlp}_up_bias": (feed_forward,),
        f"{mlp}_down_weight": (width, feed_forward),
        f"{mlp}_down_bias": (width,),
    }


def _norm_shapes(name: str, width: int) -> Shapes:
    return {f"{name}_weight": (width,), f"{name}_bias": (width,)}
