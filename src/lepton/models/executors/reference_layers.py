"""What reference executors have in common: norms, maps, MLPs and rotations in numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lepton.kernels import reference as kernels
from lepton.models.executors.base import Float32Array, Int32Array
from lepton.models.stages import Attention, GatedMlp, Linear, Mlp, Norm, RmsNorm

_ACTIVATIONS = {
    "silu": kernels.silu,
    "gelu_tanh": kernels.gelu_tanh,
    "gelu": kernels.gelu,
    "relu": kernels.relu,
}


class ReferenceLayers:
    """Parts of stages over weights in float32, by the names that stages give."""

    def __init__(self, weights: Mapping[str, Float32Array]) -> None:
        self._weights = weights

    def norm(self, norm: Norm | None, x: Float32Array) -> Float32Array:
        """``x`` normalized, or as it is when there is no norm."""
        if norm is None:
            return x
        weight = self._weights[norm.weight]
        if isinstance(norm, RmsNorm):
            return kernels.rms_norm(x, weight, norm.epsilon, norm.offset)
        bias = None if norm.bias is None else self._weights[norm.bias]
        return kernels.layer_norm(x, weight, bias, norm.epsilon)

    def linear(self, linear: Linear, x: Float32Array) -> Float32Array:
        """``x`` mapped, by a part of a tensor where the stage says so."""
        weight = self._weights[linear.weight]
        bias = None if linear.bias is None else self._weights[linear.bias]
        if linear.part is not None:
            rows = slice(linear.part.start, linear.part.stop)
            weight, bias = weight[rows], None if bias is None else bias[rows]
        return kernels.linear(x, weight, bias)

    def gated_mlp(self, stage: GatedMlp, x: Float32Array) -> Float32Array:
        """The state after a gated MLP."""
        hidden = self.norm(stage.norm, x)
        gate = _ACTIVATIONS[stage.activation](self.linear(stage.gate, hidden))
        mixed = gate * self.linear(stage.up, hidden)
        return x + self.norm(stage.post_norm, self.linear(stage.down, mixed))

    def mlp(self, stage: Mlp, x: Float32Array) -> Float32Array:
        """The state after an MLP."""
        hidden = self.linear(stage.up, self.norm(stage.norm, x))
        mixed = self.linear(stage.down, _ACTIVATIONS[stage.activation](hidden))
        return self.norm(stage.residual_norm, x + mixed)

    def heads(
        self, stage: Attention, x: Float32Array, positions: Int32Array
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Queries [rows, heads, d], keys and values [rows, kv_heads, d], normed and rotated."""
        rows = len(x)
        hidden = self.norm(stage.norm, x)
        query = self.linear(stage.query, hidden).reshape(rows, stage.num_heads, -1)
        key = self.linear(stage.key, hidden).reshape(rows, stage.num_kv_heads, -1)
        value = self.linear(stage.value, hidden).reshape(rows, stage.num_kv_heads, -1)
        query = _rotate(stage, self.norm(stage.query_norm, query), positions)
        key = _rotate(stage, self.norm(stage.key_norm, key), positions)
        return query, key, value

    def attention_output(
        self, stage: Attention, x: Float32Array, mixed: Float32Array
    ) -> Float32Array:
        """The state after attention that gave ``mixed`` [rows, heads, d]."""
        output = self.linear(stage.output, mixed.reshape(len(x), -1))
        return self.norm(stage.residual_norm, x + self.norm(stage.post_norm, output))


def _rotate(stage: Attention, x: Float32Array, positions: Int32Array) -> Float32Array:
    if stage.rope is None:
        return x
    return kernels.rotate(
        x,
        positions,
        np.asarray(stage.rope.inverse_frequencies, dtype=np.float32),
        interleaved=stage.rope.interleaved,
        magnitude=stage.rope.magnitude,
    )
