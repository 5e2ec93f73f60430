"""What a decoder looks like: sizes, rope, windows and biases, read from its checkpoint."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from lepton.errors import ModelFormatError
from lepton.models.fields import MAX_HEAD_DIM, Fields
from lepton.models.rope import RopeConfig
from lepton.models.stages import Stage
from lepton.models.weights import Checkpoint

LayerKind = Literal["full", "sliding"]

_SAME_ARCHITECTURE = {
    "mistral": "llama",
    "gemma3_text": "gemma3",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
}


@dataclass(frozen=True)
class ModelConfig:
    """A decoder's configuration, the same whatever the format of its checkpoint.

    ``layer_kinds`` has an entry for every layer: a ``sliding`` layer sees ``sliding_window``
    tokens and turns by ``local_rope`` where there is one. ``attention_scale`` multiplies
    query·key. ``vocab_size`` is the number of rows of the embedding.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_epsilon: float
    context_length: int
    rope: RopeConfig
    attention_scale: float
    layer_kinds: tuple[LayerKind, ...]
    sliding_window: int | None = None
    local_rope: RopeConfig | None = None
    tied_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    causal: bool = True
    """Whether tokens attend to earlier ones only; otherwise the model embeds and does not
    generate."""

    def window(self, layer: int) -> int | None:
        """Tokens a layer attends to, or None for all."""
        return self.sliding_window if self.layer_kinds[layer] == "sliding" else None

    def rope_of(self, layer: int) -> RopeConfig:
        """The rotation of a layer."""
        local = self.local_rope is not None and self.layer_kinds[layer] == "sliding"
        return cast("RopeConfig", self.local_rope) if local else self.rope


class Architecture(Protocol):
    """What the module ``lepton.models.<model_type>`` holds."""

    def configure(self, fields: Fields, checkpoint: Checkpoint) -> ModelConfig:
        """Read the configuration. Raises ModelFormatError."""

    def stages(self, config: ModelConfig, checkpoint: Checkpoint) -> list[Stage]:
        """The model's stages, from Embed to Head."""


def read_config(checkpoint: Checkpoint) -> ModelConfig:
    """The configuration of a checkpoint.

    Raises ModelFormatError naming the key that is missing, absurd or asks for a feature that is not
    supported, or the architecture if it is unknown.
    """
    fields = Fields.of(checkpoint)
    module = find_architecture(checkpoint)
    if hasattr(module, "heads"):
        raise ModelFormatError(
            "this model is an encoder: it embeds or classifies texts and generates none",
            file=checkpoint.path,
        )
    config = module.configure(fields, checkpoint)
    _check(config, fields)
    return config


def find_architecture(checkpoint: Checkpoint) -> Architecture:
    """The module that knows a checkpoint's architecture, by its ``model_type``.

    Raises ModelFormatError listing the known ones.
    """
    key = "general.architecture" if checkpoint.format == "gguf" else "model_type"
    name = checkpoint.metadata.get(key)
    if isinstance(name, str):
        module = _architecture(_SAME_ARCHITECTURE.get(name, name))
        if module is not None:
            return module
    raise ModelFormatError(
        f"{key!r} is {name!r:.80}, an unknown architecture. "
        f"Known are {', '.join(supported_model_types())}",
        file=checkpoint.path,
    )


def supported_model_types() -> list[str]:
    """Every ``model_type`` that can be loaded."""
    modules = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return sorted([*filter(_architecture, modules), *_SAME_ARCHITECTURE])


def _architecture(name: str) -> Architecture | None:
    """The module of that name if it is an architecture's."""
    path = f"{__package__}.{name}"
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or importlib.util.find_spec(path) is None:
        return None
    module = importlib.import_module(path)
    known = all(callable(getattr(module, name, None)) for name in ("configure", "stages"))
    return cast("Architecture", module) if known else None


def _check(config: ModelConfig, fields: Fields) -> None:
    """Refuse what no checkpoint can mean, before anything is built from it."""
    if not config.causal:
        raise fields.error(
            "is_causal",
            "is false: the model attends in both directions and generates no text; to embed with "
            "it, its folder needs a modules.json, or its GGUF file a pooling type",
        )
    if len(config.layer_kinds) != config.num_layers:
        raise fields.error("layer_types", f"has {len(config.layer_kinds)} entries, not one a layer")
    if config.num_heads % config.num_kv_heads:
        raise fields.error(
            "num_key_value_heads",
            f"is {config.num_kv_heads}, no divisor of the {config.num_heads} attention heads",
        )
    if config.head_dim % 2 or config.head_dim > MAX_HEAD_DIM:
        raise fields.error("head_dim", f"is {config.head_dim}, not even or over {MAX_HEAD_DIM}")
