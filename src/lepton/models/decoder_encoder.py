"""Decoders as encoders: their states before the head, pooled, as in Qwen3-Embedding."""

from __future__ import annotations

from dataclasses import replace

from lepton.models.config import find_architecture
from lepton.models.encoder import EncoderConfig
from lepton.models.fields import Fields
from lepton.models.stages import Attention, FinalNorm, Head, Linear, Stage
from lepton.models.weights import Checkpoint


def read_decoder_encoder(
    fields: Fields, checkpoint: Checkpoint
) -> tuple[EncoderConfig, list[Stage], Linear]:
    """Configuration and stages of a decoder, and its head apart; raises ModelFormatError."""
    module = find_architecture(checkpoint)
    decoder = module.configure(fields, checkpoint)
    config = EncoderConfig(
        model_type=decoder.model_type,
        vocab_size=decoder.vocab_size,
        hidden_size=decoder.hidden_size,
        intermediate_size=decoder.intermediate_size,
        num_layers=decoder.num_layers,
        num_heads=decoder.num_heads,
        num_kv_heads=decoder.num_kv_heads,
        head_dim=decoder.head_dim,
        norm_epsilon=decoder.norm_epsilon,
        context_length=decoder.context_length,
    )
    *stages, head = module.stages(decoder, checkpoint)
    assert isinstance(head, Head)  # noqa: S101
    if not decoder.causal:
        stages = [_in_both_directions(stage) for stage in stages]
    return config, [*stages, FinalNorm(head.norm)], head.output


def _in_both_directions(stage: Stage) -> Stage:
    """The stage with attention to later tokens too, as many as to earlier ones.

    Where ``is_causal`` is false, transformers lets a window reach one token farther.
    """
    if not isinstance(stage, Attention):
        return stage
    window = None if stage.window is None else stage.window + 1
    return replace(stage, causal=False, window=window)
