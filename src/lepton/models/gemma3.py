"""Gemma 3's text decoder, arXiv:2503.19786: five windowed layers to each one that sees all."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lepton.models.config import LayerKind, ModelConfig
from lepton.models.decoder import read_decoder, read_layer_kinds, read_rope
from lepton.models.fields import Fields
from lepton.models.names import TensorNames
from lepton.models.rope import RopeConfig, build_rope
from lepton.models.stages import Attention, Embed, GatedMlp, Head, RmsNorm, Stage
from lepton.models.weights import Checkpoint

_GGUF_NAMES = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_DEFAULTS = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "rope_theta": 1_000_000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
}
"""What config.json means where it is silent, as the published ones often are."""

_LAYERS_OF_27B = 62
"""GGUF does not store ``query_pre_attn_scalar``; it is the head dimension but in this size."""


def configure(fields: Fields, checkpoint: Checkpoint) -> ModelConfig:
    """Read the configuration of a Gemma 3 checkpoint or of the text part of a larger one."""
    fields = fields.with_defaults(_DEFAULTS)
    config = read_decoder("gemma3", fields, checkpoint, activation="gelu_pytorch_tanh")
    bias = fields.flag("attention_bias", default=False)
    return replace(
        config,
        local_rope=_read_local_rope(fields, checkpoint, config),
        attention_scale=1 / math.sqrt(_read_query_scalar(fields, config)),
        sliding_window=fields.integer("sliding_window"),
        layer_kinds=_read_layer_kinds(fields, config.num_layers),
        qkv_bias=bias,
        output_bias=bias,
    )


def stages(config: ModelConfig, checkpoint: Checkpoint) -> list[Stage]:
    """Scaled embedding, layers normed before and after attention and MLP, head."""
    names = TensorNames(checkpoint, _GGUF_NAMES)

    def norm(module: str, layer: int | None = None) -> RmsNorm:
        """Safetensors hold a norm's weight less one; converters to GGUF add it back."""
        offset = 0.0 if names.is_gguf else 1.0
        return names.norm(module, layer, epsilon=config.norm_epsilon, offset=offset)

    scale = float(np.float32(math.sqrt(config.hidden_size)))
    layers: list[Stage] = [Embed(names.tensor("embed_tokens"), scale)]
    for layer in range(config.num_layers):
        layers += [
            Attention(
                norm=norm("input_layernorm", layer),
                query=names.linear("self_attn.q_proj", layer, bias=config.qkv_bias),
                key=names.linear("self_attn.k_proj", layer, bias=config.qkv_bias),
                value=names.linear("self_attn.v_proj", layer, bias=config.qkv_bias),
                output=names.linear("self_attn.o_proj", layer, bias=config.output_bias),
                num_heads=config.num_heads,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                scale=config.attention_scale,
                rope=build_rope(config.rope_of(layer), config.head_dim),
                window=config.window(layer),
                query_norm=norm("self_attn.q_norm", layer),
                key_norm=norm("self_attn.k_norm", layer),
                post_norm=norm("post_attention_layernorm", layer),
            ),
            GatedMlp(
                norm=norm("pre_feedforward_layernorm", layer),
                gate=names.linear("mlp.gate_proj", layer),
                up=names.linear("mlp.up_proj", layer),
                down=names.linear("mlp.down_proj", layer),
                activation="gelu_tanh",
                post_norm=norm("post_feedforward_layernorm", layer),
            ),
        ]
    output = "embed_tokens" if config.tied_embeddings else "lm_head"
    return [*layers, Head(norm("norm"), names.linear(output))]


def _read_layer_kinds(fields: Fields, num_layers: int) -> tuple[LayerKind, ...]:
    """From ``layer_types``, GGUF's flag for each windowed layer, or one full layer in ``n``."""
    windowed = fields.get("sliding_window_pattern")
    if not isinstance(windowed, np.ndarray):
        period = fields.integer("sliding_window_pattern", 6)
        windowed = [(layer + 1) % period != 0 for layer in range(num_layers)]
    kinds: tuple[LayerKind, ...] = tuple("sliding" if flag else "full" for flag in windowed)
    return read_layer_kinds(fields, kinds)


def _read_local_rope(fields: Fields, checkpoint: Checkpoint, config: ModelConfig) -> RopeConfig:
    """The rotation of windowed layers; scaling by the older spellings is for the others only."""
    if fields.is_gguf or fields.section("rope_parameters") is None:
        return RopeConfig(fields.number("rope_local_base_freq", 10_000.0))
    return read_rope(
        fields,
        checkpoint,
        config.head_dim,
        config.context_length,
        layer_type="sliding_attention",
    )


def _read_query_scalar(fields: Fields, config: ModelConfig) -> float:
    if not fields.is_gguf:
        return fields.number("query_pre_attn_scalar")
    if config.num_layers == _LAYERS_OF_27B:
        return config.hidden_size / config.num_heads
    return config.head_dim
