"""What the decoders have in common: reading sizes, rope and window from their configuration."""

from __future__ import annotations

import math
from typing import Any

from lepton.errors import ModelFormatError
from lepton.models.config import LayerKind, ModelConfig
from lepton.models.fields import Fields
from lepton.models.rope import (
    FrequencyDivisors,
    LinearScaling,
    Llama3Scaling,
    RopeConfig,
    RopeScaling,
    YarnScaling,
)
from lepton.models.weights import Checkpoint

_UNSUPPORTED = (
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "use_bidirectional_attention",
)
_UNSUPPORTED_GGUF = (
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "expert_count",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
    "attention.scale",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attention.temperature_scale",
    "use_parallel_residual",
    "rope.scale_linear",
    "rope.scaling.yarn_log_multiplier",
)
_ACTIVATION_KEYS = ("hidden_act", "hidden_activation")
_LAYER_KINDS: dict[str, LayerKind] = {"full_attention": "full", "sliding_attention": "sliding"}
_ROPE_DIVISORS = "rope_freqs.weight"


def read_decoder(
    model_type: str,
    fields: Fields,
    checkpoint: Checkpoint,
    *,
    activation: str = "silu",
) -> ModelConfig:
    """The fields that every decoder has; full attention in all layers and no biases.

    ``activation`` is the only one the architecture is defined with.

    Raises ModelFormatError for missing or absurd values and for features not supported.
    """
    fields.refuse(*(_UNSUPPORTED_GGUF if fields.is_gguf else _UNSUPPORTED))
    for key in _ACTIVATION_KEYS:
        if (fields.text(key) or activation) != activation:
            raise fields.error(key, f"is {fields.text(key)!r}; only {activation!r} is supported")
    full: tuple[LayerKind, ...] = ("full",)
    hidden_size = fields.integer("hidden_size")
    num_heads = fields.integer("num_attention_heads")
    head_dim = _read_head_dim(fields, hidden_size, num_heads)
    context_length = fields.integer("max_position_embeddings")
    return ModelConfig(
        model_type=model_type,
        vocab_size=_read_vocab_size(fields, checkpoint),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=_read_num_layers(fields, checkpoint),
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", num_heads),
        head_dim=head_dim,
        norm_epsilon=fields.number("rms_norm_eps", 1e-6),
        context_length=context_length,
        rope=read_rope(fields, checkpoint, head_dim, context_length),
        attention_scale=1 / math.sqrt(head_dim),
        layer_kinds=full * _read_num_layers(fields, checkpoint),
        tied_embeddings=_read_tied(fields, checkpoint),
        causal=fields.flag("is_causal", default=True),
    )


def read_layer_kinds(fields: Fields, default: tuple[LayerKind, ...]) -> tuple[LayerKind, ...]:
    """The kind of every layer, from ``layer_types`` where config.json lists them."""
    names = fields.get("layer_types")
    if names is None:
        return default
    known = list(_LAYER_KINDS)
    if not isinstance(names, list) or not all(name in known for name in names):
        raise fields.error("layer_types", f"holds others than {', '.join(_LAYER_KINDS)}")
    return tuple(_LAYER_KINDS[name] for name in names)


def read_rope(
    fields: Fields,
    checkpoint: Checkpoint,
    head_dim: int,
    context_length: int,
    *,
    layer_type: str = "full_attention",
) -> RopeConfig:
    """The rotation, from GGUF metadata or either spelling of config.json.

    Newer files keep everything under ``rope_parameters`` (one such object for each layer type
    where the model has several), older ones ``rope_theta`` and, for scaling, ``rope_scaling``.
    """
    base_key = "rope_local_base_freq" if layer_type == "sliding_attention" else "rope_theta"
    base = _read_base(fields, base_key, 10_000.0)
    if fields.is_gguf:
        return RopeConfig(base, _read_gguf_scaling(fields, checkpoint, head_dim, context_length))
    section = fields.section("rope_parameters")
    if section is None:
        return RopeConfig(base, _read_scaling(fields.section("rope_scaling"), context_length))
    section = section.section(layer_type) or section
    base = _read_base(section, "rope_theta", base)
    return RopeConfig(base, _read_scaling(section, context_length))


def _read_base(fields: Fields, key: str, default: float) -> float:
    base = fields.number(key, default)
    if base <= 1:
        raise fields.error(key, f"is {base}; it must be over 1")
    return base


def _read_num_layers(fields: Fields, checkpoint: Checkpoint) -> int:
    """The number of layers, bounded by the number of tensors before anything is that long."""
    num_layers, num_tensors = fields.integer("num_hidden_layers"), len(checkpoint.tensors)
    if num_layers >= num_tensors:
        raise fields.error(
            "num_hidden_layers", f"is {num_layers}, but there are {num_tensors} tensors"
        )
    return num_layers


def _read_head_dim(fields: Fields, hidden_size: int, num_heads: int) -> int:
    head_dim = fields.optional_integer("head_dim")
    if head_dim is None:
        if hidden_size % num_heads:
            raise fields.error(
                "num_attention_heads", f"is {num_heads}, no divisor of hidden size {hidden_size}"
            )
        head_dim = hidden_size // num_heads
    partial = fields.optional_number("partial_rotary_factor")
    if partial is not None and partial != 1:
        raise fields.error("partial_rotary_factor", f"is {partial}: only 1 is supported")
    if fields.is_gguf:
        for key in ("attention.value_length", "rope.dimension_count"):
            if fields.integer(key, head_dim) != head_dim:
                raise fields.error(key, f"is not the head dimension {head_dim}: not supported")
    return head_dim


def _read_vocab_size(fields: Fields, checkpoint: Checkpoint) -> int:
    """The vocabulary's size; GGUF may leave it to the embedding's shape."""
    embedding = checkpoint.tensors.get("token_embd.weight")
    if fields.is_gguf and embedding and embedding.shape and not fields.has("vocab_size"):
        return embedding.shape[0]
    return fields.integer("vocab_size")


def _read_tied(fields: Fields, checkpoint: Checkpoint) -> bool:
    if fields.is_gguf:
        return "output.weight" not in checkpoint.tensors
    return fields.flag("tie_word_embeddings", default=False)


def _read_scaling(section: Fields | None, context_length: int) -> RopeScaling | None:
    if section is None:
        return None
    partial = section.number("partial_rotary_factor", 1.0)
    if partial != 1:
        raise section.error("partial_rotary_factor", f"is {partial}: only 1 is supported")
    key = "rope_type" if section.has("rope_type") else "type"
    kind = section.text(key) or "default"
    if kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(section.number("factor"))
    if kind == "llama3":
        return _read_llama3_scaling(section)
    if kind == "yarn":
        original = section.integer("original_max_position_embeddings", context_length)
        return YarnScaling(
            factor=section.number("factor", context_length / original),
            original_context_length=original,
            beta_fast=section.number("beta_fast", 32.0),
            beta_slow=section.number("beta_slow", 1.0),
            attention_factor=_read_attention_factor(section),
            truncate=section.flag("truncate", True),
        )
    raise section.error(key, f"is {kind!r:.80}; supported are default, linear, llama3 and yarn")


def _read_llama3_scaling(section: Fields) -> Llama3Scaling:
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if high <= low:
        raise section.error("high_freq_factor", f"is {high}, not over low_freq_factor {low}")
    return Llama3Scaling(
        factor=section.number("factor"),
        low_factor=low,
        high_factor=high,
        original_context_length=section.integer("original_max_position_embeddings"),
    )


def _read_attention_factor(section: Fields) -> float | None:
    section.refuse("mscale", "mscale_all_dim")
    return section.optional_number("attention_factor")


def _read_gguf_scaling(
    fields: Fields, checkpoint: Checkpoint, head_dim: int, context_length: int
) -> RopeScaling | None:
    kind = fields.text("rope.scaling.type") or "none"
    if _ROPE_DIVISORS in checkpoint.tensors:
        if kind != "none":
            raise fields.error("rope.scaling.type", f"is {kind!r:.80} beside {_ROPE_DIVISORS}")
        return FrequencyDivisors(_read_divisors(checkpoint, head_dim))
    if kind == "none":
        return None
    factor = fields.number("rope.scaling.factor", 1.0)
    if kind == "linear":
        return LinearScaling(factor)
    if kind == "yarn":
        magnitude = fields.number("rope.scaling.attn_factor", 1.0)
        return YarnScaling(
            factor=factor,
            original_context_length=fields.integer(
                "rope.scaling.original_context_length", context_length
            ),
            beta_fast=fields.number("rope.scaling.yarn_beta_fast", 32.0),
            beta_slow=fields.number("rope.scaling.yarn_beta_slow", 1.0),
            attention_factor=magnitude * (1 + 0.1 * math.log(factor)) if factor > 1 else magnitude,
        )
    raise fields.error("rope.scaling.type", f"is {kind!r:.80}; supported are linear and yarn")


def _read_divisors(checkpoint: Checkpoint, head_dim: int) -> tuple[float, ...]:
    shape = checkpoint.tensors[_ROPE_DIVISORS].shape
    if shape != (head_dim // 2,):
        raise ModelFormatError(
            f"has shape {shape}, expected {(head_dim // 2,)}",
            file=checkpoint.path,
            tensor=_ROPE_DIVISORS,
        )
    divisors: list[Any] = checkpoint.float32(_ROPE_DIVISORS).tolist()
    if not all(0 < divisor < math.inf for divisor in divisors):
        raise ModelFormatError(
            "holds a divisor that is not a positive number",
            file=checkpoint.path,
            tensor=_ROPE_DIVISORS,
        )
    return tuple(divisors)
