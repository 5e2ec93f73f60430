"""Check that a checkpoint holds what a model's stages will read, before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lepton.errors import ModelFormatError
from lepton.models.config import ModelConfig
from lepton.models.names import TensorNames
from lepton.models.stages import Attention, Embed, GatedMlp, Head, Linear, RmsNorm, Stage
from lepton.models.weights import Checkpoint

Shape = tuple[int, ...]

_NO_WEIGHTS = ("rotary_emb.inv_freq", "attn_rot_embd.weight")
"""Endings of tensors that old checkpoints carry and that follow from the configuration."""


def check_tensors(stages: Sequence[Stage], config: ModelConfig, checkpoint: Checkpoint) -> None:
    """Compare the tensors that stages name with those a checkpoint has.

    Raises ModelFormatError for one that is missing, has another shape than the configuration
    demands, or belongs to a layer but is used by no stage: the model would be another one.
    """
    expected = expected_tensors(stages, config)
    for name, shape in expected.items():
        found = checkpoint.tensors.get(name)
        if found is None:
            raise ModelFormatError(
                f"is missing, expected shape {shape}", file=checkpoint.path, tensor=name
            )
        if tuple(found.shape) != shape:
            raise ModelFormatError(
                f"has shape {tuple(found.shape)}, expected {shape}",
                file=checkpoint.path,
                tensor=name,
            )
    names = TensorNames(checkpoint)
    layers = tuple(names.layer_prefix(layer) for layer in range(config.num_layers))
    for name in checkpoint.tensors:
        if name.startswith(layers) and name not in expected and not name.endswith(_NO_WEIGHTS):
            raise ModelFormatError(
                f"is not part of a {config.model_type} model as it is supported",
                file=checkpoint.path,
                tensor=name,
            )


def expected_tensors(stages: Sequence[Stage], config: ModelConfig) -> dict[str, Shape]:
    """Name and shape of every tensor the stages take."""
    return dict(_expected(stages, config))


def _expected(stages: Sequence[Stage], config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    hidden = config.hidden_size
    for stage in stages:
        match stage:
            case Embed(weight):
                yield weight, (config.vocab_size, hidden)
            case Attention():
                yield from _expected_by_attention(stage, hidden)
            case GatedMlp():
                yield from _norm(stage.norm, hidden)
                yield from _linear(stage.gate, config.intermediate_size, hidden)
                yield from _linear(stage.up, config.intermediate_size, hidden)
                yield from _linear(stage.down, hidden, config.intermediate_size)
                yield from _norm(stage.post_norm, hidden)
            case Head(norm, output):
                yield from _norm(norm, hidden)
                yield from _linear(output, config.vocab_size, hidden)


def _expected_by_attention(stage: Attention, hidden: int) -> Iterator[tuple[str, Shape]]:
    queries, keys = stage.num_heads * stage.head_dim, stage.num_kv_heads * stage.head_dim
    yield from _norm(stage.norm, hidden)
    yield from _linear(stage.query, queries, hidden)
    yield from _linear(stage.key, keys, hidden)
    yield from _linear(stage.value, keys, hidden)
    yield from _linear(stage.output, hidden, queries)
    yield from _norm(stage.query_norm, stage.head_dim)
    yield from _norm(stage.key_norm, stage.head_dim)
    yield from _norm(stage.post_norm, hidden)


def _linear(linear: Linear, outputs: int, inputs: int) -> Iterator[tuple[str, Shape]]:
    yield linear.weight, (outputs, inputs)
    if linear.bias is not None:
        yield linear.bias, (outputs,)


def _norm(norm: RmsNorm | None, size: int) -> Iterator[tuple[str, Shape]]:
    if norm is not None:
        yield norm.weight, (size,)
