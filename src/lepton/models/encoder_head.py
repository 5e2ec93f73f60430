"""What comes after pooling: a sentence model's maps, a classifier's layers. numpy, float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy

from lepton.errors import ModelFormatError
from lepton.kernels import reference as kernels
from lepton.kernels.reference import Float32Array
from lepton.models.sentence_transformers import Projection
from lepton.models.stages import Dense, Squash

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderModel
    from lepton.models.weights import Checkpoint


@dataclass(frozen=True)
class HeadLayer:
    """norm(squash(x Wᵀ + b)) with ``weight`` [outputs, inputs].

    With ``unit_inputs`` the rows of x get length one before.
    """

    weight: Float32Array
    bias: Float32Array | None
    squash: Squash
    norm_weight: Float32Array | None = None
    norm_bias: Float32Array | None = None
    norm_epsilon: float = 0.0
    unit_inputs: bool = False

    def apply(self, x: Float32Array) -> Float32Array:
        """[rows, inputs] → [rows, outputs]."""
        x = unit_rows(x) if self.unit_inputs else x
        y = _squash(kernels.linear(x, self.weight, self.bias), self.squash)
        if self.norm_weight is None:
            return y
        return kernels.layer_norm(y, self.norm_weight, self.norm_bias, self.norm_epsilon)


def head_layers(model: EncoderModel) -> list[HeadLayer]:
    """What comes after pooling to give a model's logits; nothing where it only embeds."""
    if model.judge is not None:
        return [HeadLayer(model.judge.difference(model.checkpoint), None, "none")]
    return [] if model.head is None else _classifier_layers(model.head.layers, model.checkpoint)


def _classifier_layers(layers: tuple[Dense, ...], checkpoint: Checkpoint) -> list[HeadLayer]:
    return [
        HeadLayer(
            checkpoint.float32(layer.linear.weight),
            None if layer.linear.bias is None else checkpoint.float32(layer.linear.bias),
            layer.activation,
            None if layer.norm is None else checkpoint.float32(layer.norm.weight),
            None
            if layer.norm is None or layer.norm.bias is None
            else checkpoint.float32(layer.norm.bias),
            0.0 if layer.norm is None else layer.norm.epsilon,
        )
        for layer in layers
    ]


def projection_layers(projections: tuple[Projection, ...], width: int) -> list[HeadLayer]:
    """The maps of a sentence model; raises ModelFormatError when one does not fit the other."""
    layers = []
    for projection in projections:
        layer = _read_projection(projection)
        expected = (projection.outputs, width)
        if layer.weight.shape != expected or projection.inputs != width:
            raise ModelFormatError(
                f"has shape {layer.weight.shape}, expected {expected}",
                file=projection.folder / "model.safetensors",
                tensor="linear.weight",
            )
        layers.append(layer)
        width = projection.outputs
    return layers


def _read_projection(projection: Projection) -> HeadLayer:
    file = projection.folder / "model.safetensors"
    try:
        tensors = safetensors.numpy.load_file(file)
        weight = tensors["linear.weight"].astype(np.float32)
        bias = tensors["linear.bias"].astype(np.float32) if projection.bias else None
    except FileNotFoundError:
        raise ModelFormatError("is missing; pickled weights are not read", file=file) from None
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise ModelFormatError(f"cannot be read: {error}", file=file) from error
    return HeadLayer(weight, bias, projection.activation, unit_inputs=projection.unit_inputs)


def unit_rows(vectors: Float32Array) -> Float32Array:
    """Rows [rows, columns] scaled to length one."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    unit: Float32Array = vectors / np.maximum(lengths, np.float32(1e-12))[:, None]
    return unit


def _squash(x: Float32Array, squash: Squash) -> Float32Array:
    match squash:
        case "none":
            return x
        case "tanh":
            y: Float32Array = np.tanh(x)
            return y
        case "relu":
            return kernels.relu(x)
        case "gelu":
            return kernels.gelu(x)
        case "gelu_tanh":
            return kernels.gelu_tanh(x)
        case "silu":
            return kernels.silu(x)
