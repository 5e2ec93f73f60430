"""What can be said of an encoder from its files, without reading its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lepton.models.encoder_loader import EncoderTask, load_encoder
from lepton.models.executors import Quantize
from lepton.models.executors.encoder_packing import choose_types, encoder_bytes
from lepton.models.stages import PoolingKind
from lepton.models.summary import licence_of, tensor_counts
from lepton.models.weights import Checkpoint


@dataclass(frozen=True)
class EncoderSummary:
    """An encoder's file or folder, described."""

    path: Path
    architecture: str
    task: EncoderTask
    parameters: int
    types: Mapping[str, int]
    """Number of tensors by type, the most frequent first."""
    vocabulary: int
    dimensions: int
    """Of a vector, or of a token's state where there is a classification head."""
    layers: int
    max_tokens: int
    """Of one input by default, special ones included."""
    context_length: int
    pooling: PoolingKind
    normalize: bool
    prompts: Mapping[str, str]
    labels: tuple[str, ...]
    licence: str | None
    product_type: str
    """What products are computed in with these choices on this machine."""
    weights: int
    """Bytes of the loaded weights."""


def summarize_encoder(checkpoint: Checkpoint, *, quantize: Quantize = "none") -> EncoderSummary:
    """Describe the encoder of an open checkpoint; raises as ``load_encoder`` does."""
    model = load_encoder(checkpoint.path, checkpoint)
    counts = tensor_counts(checkpoint)
    types = choose_types("auto", quantize)
    return EncoderSummary(
        path=checkpoint.path,
        architecture=model.config.model_type,
        task=model.task,
        parameters=counts.parameters,
        types=counts.types,
        vocabulary=model.config.vocab_size,
        dimensions=model.dimensions,
        layers=model.config.num_layers,
        max_tokens=model.max_tokens,
        context_length=model.context_length,
        pooling=model.pooling,
        normalize=model.settings.normalize,
        prompts=dict(model.settings.prompts),
        labels=model.config.labels,
        licence=licence_of(checkpoint),
        product_type=types.product,
        weights=encoder_bytes(model, types),
    )
