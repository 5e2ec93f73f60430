"""Qwen 2 and 2.5, arXiv:2407.10671: a Llama with biases on query, key and value."""

from __future__ import annotations

from dataclasses import replace

from lepton.models.config import LayerKind, ModelConfig
from lepton.models.decoder import read_decoder, read_layer_kinds
from lepton.models.fields import Fields
from lepton.models.names import TensorNames
from lepton.models.rope import build_rope
from lepton.models.stages import Attention, Embed, GatedMlp, Head, Stage
from lepton.models.weights import Checkpoint


def configure(fields: Fields, checkpoint: Checkpoint) -> ModelConfig:
    """Read the configuration of a Qwen 2 checkpoint."""
    return replace(read_windows(read_decoder("qwen2", fields, checkpoint), fields), qkv_bias=True)


def read_windows(config: ModelConfig, fields: Fields) -> ModelConfig:
    """Add the sliding window, off unless ``use_sliding_window`` turns it on for the last layers."""
    if not fields.flag("use_sliding_window", default=False):
        return config
    first = fields.integer("max_window_layers", 28)
    kinds: tuple[LayerKind, ...] = tuple(
        "sliding" if layer >= first else "full" for layer in range(config.num_layers)
    )
    return replace(
        config,
        sliding_window=fields.integer("sliding_window", 4096),
        layer_kinds=read_layer_kinds(fields, kinds),
    )


def stages(config: ModelConfig, checkpoint: Checkpoint) -> list[Stage]:
    """Embedding, layers of attention and gated MLP, head."""
    names = TensorNames(checkpoint)
    rope = build_rope(config.rope, config.head_dim)
    epsilon = config.norm_epsilon
    layers: list[Stage] = [Embed(names.tensor("embed_tokens"))]
    for layer in range(config.num_layers):
        layers += [
            Attention(
                norm=names.norm("input_layernorm", layer, epsilon=epsilon),
                query=names.linear("self_attn.q_proj", layer, bias=config.qkv_bias),
                key=names.linear("self_attn.k_proj", layer, bias=config.qkv_bias),
                value=names.linear("self_attn.v_proj", layer, bias=config.qkv_bias),
                output=names.linear("self_attn.o_proj", layer),
                num_heads=config.num_heads,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                scale=config.attention_scale,
                rope=rope,
                window=config.window(layer),
            ),
            GatedMlp(
                norm=names.norm("post_attention_layernorm", layer, epsilon=epsilon),
                gate=names.linear("mlp.gate_proj", layer),
                up=names.linear("mlp.up_proj", layer),
                down=names.linear("mlp.down_proj", layer),
            ),
        ]
    output = "embed_tokens" if config.tied_embeddings else "lm_head"
    return [*layers, Head(names.norm("norm", epsilon=epsilon), names.linear(output))]
