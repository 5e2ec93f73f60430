"""Llama, arXiv:2307.09288, and what shares its shape: Llama 3, SmolLM2, Mistral."""

from __future__ import annotations

from dataclasses import replace

from lepton.models.config import ModelConfig
from lepton.models.decoder import read_decoder
from lepton.models.fields import Fields
from lepton.models.names import TensorNames
from lepton.models.rope import build_rope
from lepton.models.stages import Attention, Embed, GatedMlp, Head, Stage
from lepton.models.weights import Checkpoint

_MISTRAL_DEFAULTS = {"sliding_window": 4096, "num_key_value_heads": 8}


def configure(fields: Fields, checkpoint: Checkpoint) -> ModelConfig:
    """Read the configuration of a Llama or Mistral checkpoint.

    Llama's own config.json knows no window; GGUF calls Mistral a Llama.
    """
    is_mistral = fields.text("model_type") == "mistral"
    fields = fields.with_defaults(_MISTRAL_DEFAULTS if is_mistral else {})
    config = read_decoder("llama", fields, checkpoint)
    has_window = is_mistral or fields.is_gguf
    window = fields.optional_integer("sliding_window") if has_window else None
    tensors = checkpoint.tensors
    return replace(
        config,
        sliding_window=window,
        layer_kinds=("sliding" if window else "full",) * config.num_layers,
        qkv_bias=fields.flag("attention_bias", "blk.0.attn_q.bias" in tensors),
        output_bias=fields.flag("attention_bias", "blk.0.attn_output.bias" in tensors),
        mlp_bias=fields.flag("mlp_bias", "blk.0.ffn_gate.bias" in tensors),
    )


def stages(config: ModelConfig, checkpoint: Checkpoint) -> list[Stage]:
    """Embedding, layers of attention and gated MLP, head.

    Converters to GGUF reorder the rows of query and key so that a rotated pair lies side by side.
    """
    names = TensorNames(checkpoint)
    rope = build_rope(config.rope, config.head_dim, interleaved=names.is_gguf)
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
            ),
            GatedMlp(
                norm=names.norm("post_attention_layernorm", layer, epsilon=epsilon),
                gate=names.linear("mlp.gate_proj", layer, bias=config.mlp_bias),
                up=names.linear("mlp.up_proj", layer, bias=config.mlp_bias),
                down=names.linear("mlp.down_proj", layer, bias=config.mlp_bias),
            ),
        ]
    output = "embed_tokens" if config.tied_embeddings else "lm_head"
    return [*layers, Head(names.norm("norm", epsilon=epsilon), names.linear(output))]
