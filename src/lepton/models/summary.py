"""What can be said of a model from its header alone, without reading its weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lepton.models.config import ModelConfig, find_architecture, read_config
from lepton.models.executors import KvDtype, Quantize
from lepton.models.executors.packing import packed_bytes, packed_types
from lepton.models.footprint import Footprint
from lepton.models.validation import check_tensors, expected_tensors
from lepton.models.weights import Checkpoint

_SHOWN_CONTEXTS = (2048, 8192, 32768, 131072)


@dataclass(frozen=True)
class TensorCounts:
    """What a checkpoint's tensors amount to."""

    parameters: int
    types: Mapping[str, int]
    """Number of tensors by type, the most frequent first."""


@dataclass(frozen=True)
class ModelSummary:
    """A model file or folder, described."""

    path: Path
    architecture: str
    parameters: int
    types: Mapping[str, int]
    """Number of tensors by type, the most frequent first."""
    vocabulary: int
    chat_template: bool
    licence: str | None
    """As the file itself says, or None."""
    footprint: Footprint

    @property
    def memory(self) -> dict[int, int]:
        """Bytes of memory by context, for the usual contexts and the model's own."""
        longest = self.footprint.context_length
        contexts = [context for context in _SHOWN_CONTEXTS if context < longest]
        return {context: self.footprint.memory(context) for context in [*contexts, longest]}


def summarize(
    checkpoint: Checkpoint, *, quantize: Quantize = "none", kv_dtype: KvDtype = "bf16"
) -> ModelSummary:
    """Describe the model of an open checkpoint, and the memory it takes with these choices.

    Raises ModelFormatError when it is damaged or of a kind that is not supported.
    """
    config = read_config(checkpoint)
    counts = tensor_counts(checkpoint)
    return ModelSummary(
        path=checkpoint.path,
        architecture=config.model_type,
        parameters=counts.parameters,
        types=counts.types,
        vocabulary=config.vocab_size,
        chat_template=_has_template(checkpoint),
        licence=licence_of(checkpoint),
        footprint=footprint(checkpoint, config, quantize, kv_dtype),
    )


def tensor_counts(checkpoint: Checkpoint) -> TensorCounts:
    """Parameters of a checkpoint, and its tensors by type."""
    tensors = checkpoint.tensors.values()
    return TensorCounts(
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        types=dict(Counter(tensor.type.name for tensor in tensors).most_common()),
    )


def footprint(
    checkpoint: Checkpoint, config: ModelConfig, quantize: Quantize, kv_dtype: KvDtype
) -> Footprint:
    """The memory that a model of this configuration and these tensors takes once loaded."""
    stages = find_architecture(checkpoint).stages(config, checkpoint)
    check_tensors(stages, config, checkpoint)
    types = packed_types(stages, checkpoint.tensors, quantize)
    return Footprint(
        weights=sum(
            packed_bytes(checkpoint.tensors[name], types.get(name))
            for name in expected_tensors(stages, config)
        ),
        layers=config.num_layers,
        kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        context_length=config.context_length,
        kv_dtype=kv_dtype,
    )


def _has_template(checkpoint: Checkpoint) -> bool:
    if checkpoint.format == "gguf":
        return "tokenizer.chat_template" in checkpoint.metadata
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    if (folder / "chat_template.jinja").is_file():
        return True
    settings = folder / "tokenizer_config.json"
    return settings.is_file() and '"chat_template"' in settings.read_text("utf-8", "replace")


def licence_of(checkpoint: Checkpoint) -> str | None:
    """The licence a file names itself, or None."""
    value = checkpoint.metadata.get("general.license")
    return str(value)[:100] if value else None
