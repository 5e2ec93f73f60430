"""Check that a checkpoint holds what a model's stages will read, before anything is allocated."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from lepton.errors import ModelFormatError
from lepton.models.config import ModelConfig
from lepton.models.encoder import EncoderConfig
from lepton.models.names import TensorNames
from lepton.models.stages import (
    Attention,
    Dense,
    Embed,
    FinalNorm,
    GatedMlp,
    Head,
    Linear,
    Mlp,
    Norm,
    RmsNorm,
    Stage,
    Table,
)
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
    _compare(expected, checkpoint)
    names = TensorNames(checkpoint)
    layers = tuple(names.layer_prefix(layer) for layer in range(config.num_layers))
    for name in checkpoint.tensors:
        if name.startswith(layers) and name not in expected and not name.endswith(_NO_WEIGHTS):
            raise ModelFormatError(
                f"is not part of a {config.model_type} model as it is supported",
                file=checkpoint.path,
                tensor=name,
            )


def check_encoder(stages: Sequence[Stage], config: EncoderConfig, checkpoint: Checkpoint) -> None:
    """Compare the tensors that an encoder's stages name with those a checkpoint has.

    Raises ModelFormatError for one that is missing or has another shape than it should.
    """
    embeddings = (stage for stage in stages if isinstance(stage, Embed))
    tables = {table.weight for stage in embeddings for table in _tables(stage)}
    _compare(expected_tensors(stages, config), checkpoint, tables)


def check_dense(layers: Sequence[Dense], config: EncoderConfig, checkpoint: Checkpoint) -> None:
    """Check the layers of a head: each takes what the one before gives, the last one the labels.

    Raises ModelFormatError as ``check_encoder`` does.
    """
    expected: dict[str, Shape] = {}
    for number, layer in enumerate(layers):
        outputs = len(config.labels) if number == len(layers) - 1 else config.hidden_size
        expected |= dict(_linear(layer.linear, outputs, config.hidden_size))
        expected |= dict(_norm(layer.norm, outputs))
    _compare(expected, checkpoint)


def _compare(
    expected: Mapping[str, Shape], checkpoint: Checkpoint, tables: Collection[str] = ()
) -> None:
    """``tables`` are those of the tensors whose rows are looked up, not multiplied."""
    for name, shape in expected.items():
        found = checkpoint.tensors.get(name)
        if found is None:
            raise ModelFormatError(
                f"is missing, expected shape {shape}", file=checkpoint.path, tensor=name
            )
        # A table with one row may be stored as a vector.
        vector = shape[1:] if name in tables and shape[0] == 1 else shape
        if tuple(found.shape) not in (shape, vector):
            raise ModelFormatError(
                f"has shape {tuple(found.shape)}, expected {shape}",
                file=checkpoint.path,
                tensor=name,
            )


def _tables(stage: Embed) -> Iterator[Table]:
    """What is looked up beside the embedding itself."""
    return (table for table in (stage.positions, stage.token_types) if table is not None)


def expected_tensors(
    stages: Sequence[Stage], config: ModelConfig | EncoderConfig
) -> dict[str, Shape]:
    """Name and shape of every tensor the stages take."""
    return dict(_expected(stages, config))


def _expected(
    stages: Sequence[Stage], config: ModelConfig | EncoderConfig
) -> Iterator[tuple[str, Shape]]:
    hidden = config.hidden_size
    for stage in stages:
        match stage:
            case Embed():
                yield stage.weight, (config.vocab_size, hidden)
                for table in _tables(stage):
                    yield table.weight, (table.rows, hidden)
                yield from _norm(stage.norm, hidden)
            case Attention():
                yield from _expected_by_attention(stage, hidden)
            case GatedMlp():
                yield from _norm(stage.norm, hidden)
                yield from _linear(stage.gate, config.intermediate_size, hidden)
                yield from _linear(stage.up, config.intermediate_size, hidden)
                yield from _linear(stage.down, hidden, config.intermediate_size)
                yield from _norm(stage.post_norm, hidden)
            case Mlp():
                yield from _norm(stage.norm, hidden)
                yield from _linear(stage.up, config.intermediate_size, hidden)
                yield from _linear(stage.down, hidden, config.intermediate_size)
                yield from _norm(stage.residual_norm, hidden)
            case FinalNorm(norm):
                yield from _norm(norm, hidden)
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
    yield from _norm(stage.residual_norm, hidden)


def _linear(linear: Linear, outputs: int, inputs: int) -> Iterator[tuple[str, Shape]]:
    rows = outputs if linear.part is None else linear.part.of
    yield linear.weight, (rows, inputs)
    if linear.bias is not None:
        yield linear.bias, (rows,)


def _norm(norm: Norm | None, size: int) -> Iterator[tuple[str, Shape]]:
    if norm is not None:
        yield norm.weight, (size,)
        if not isinstance(norm, RmsNorm) and norm.bias is not None:
            yield norm.bias, (size,)
