"""BERT, arXiv:1810.04805: MiniLM, BGE, GTE and the other sentence encoders of its shape."""

from __future__ import annotations

from lepton.models.encoder import (
    EncoderConfig,
    EncoderHead,
    EncoderNames,
    attention_of,
    mlp_of,
    read_encoder,
)
from lepton.models.fields import Fields
from lepton.models.stages import Dense, Embed, Linear, Stage, Table
from lepton.models.weights import Checkpoint

_GGUF_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def configure(fields: Fields, checkpoint: Checkpoint) -> EncoderConfig:
    """Read the configuration of a BERT checkpoint."""
    return read_encoder("bert", fields, checkpoint)


def stages(config: EncoderConfig, checkpoint: Checkpoint) -> list[Stage]:
    """Embedding and layers, each normalized after its sum."""
    return bert_stages(config, checkpoint, prefixes=("", "bert."))


def heads(_fields: Fields) -> dict[str, EncoderHead]:
    """The pooler and a linear map; a linear map of every token."""
    pooler = Dense(Linear("bert.pooler.dense.weight", "bert.pooler.dense.bias"), "tanh")
    classifier = Dense(Linear("classifier.weight", "classifier.bias"))
    return {
        "SequenceClassification": EncoderHead("cls", (pooler, classifier)),
        "TokenClassification": EncoderHead(None, (classifier,)),
    }


def bert_stages(
    config: EncoderConfig,
    checkpoint: Checkpoint,
    *,
    prefixes: tuple[str, ...],
    position_offset: int = 0,
) -> list[Stage]:
    """The stages of BERT and RoBERTa, which differ in where positions begin."""
    names = EncoderNames(
        checkpoint,
        first="embeddings.word_embeddings",
        layers="encoder.layer",
        prefixes=prefixes,
        gguf=_GGUF_NAMES,
    )
    epsilon = config.norm_epsilon
    types = names.tensor("embeddings.token_type_embeddings")
    kinds = checkpoint.tensors.get(types)
    layers: list[Stage] = [
        Embed(
            names.tensor("embeddings.word_embeddings"),
            positions=Table(
                names.tensor("embeddings.position_embeddings"),
                config.context_length + position_offset,
            ),
            position_offset=position_offset,
            # A checkpoint with one kind of token may store it as a vector.
            token_types=Table(types, kinds.shape[0] if len(kinds.shape) > 1 else 1)
            if kinds is not None
            else None,
            norm=names.norm("embeddings.LayerNorm", epsilon=epsilon),
        )
    ]
    for layer in range(config.num_layers):
        layers += [
            attention_of(
                config,
                query=names.linear("attention.self.query", layer),
                key=names.linear("attention.self.key", layer),
                value=names.linear("attention.self.value", layer),
                output=names.linear("attention.output.dense", layer),
                residual_norm=names.norm("attention.output.LayerNorm", layer, epsilon=epsilon),
            ),
            mlp_of(
                config,
                up=names.linear("intermediate.dense", layer),
                down=names.linear("output.dense", layer),
                residual_norm=names.norm("output.LayerNorm", layer, epsilon=epsilon),
            ),
        ]
    return layers
