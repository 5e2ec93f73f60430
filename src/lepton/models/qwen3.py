"""Qwen 3, arXiv:2505.09388: a Llama with norms on the heads of query and key."""

from __future__ import annotations

from dataclasses import replace

from lepton.models.config import ModelConfig
from lepton.models.decoder import read_decoder
from lepton.models.fields import Fields
from lepton.models.names import TensorNames
from lepton.models.qwen2 import read_windows
from lepton.models.rope import build_rope
from lepton.models.stages import Attention, Embed, GatedMlp, Head, Stage
from lepton.models.weights import Checkpoint


def configure(fields: Fields, checkpoint: Checkpoint) -> ModelConfig:
    """Read the configuration of a Qwen 3 checkpoint."""
    fields = fields.with_defaults({"head_dim": 128})
    bias = fields.flag("attention_bias", default=False)
    config = read_windows(read_decoder("qwen3", fields, checkpoint), fields)
    return replace(config, qkv_bias=bias, output_bias=bias)


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
                output=names.linear("self_attn.o_proj", layer, bias=config.output_bias),
                num_heads=config.num_heads,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                scale=config.attention_scale,
                rope=rope,
                window=config.window(layer),
                query_norm=names.norm("self_attn.q_norm", layer, epsilon=epsilon),
                key_norm=names.norm("self_attn.k_norm", layer, epsilon=epsilon),
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
