"""DistilBERT, arXiv:1910.01108: half of BERT's layers, and one kind of token."""

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

_KEYS = {
    "dim": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_layers": "num_hidden_layers",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}
"""The keys of this family, and those that the others have."""


def configure(fields: Fields, checkpoint: Checkpoint) -> EncoderConfig:
    """Read the configuration of a DistilBERT checkpoint."""
    common = {theirs: fields.get(ours) for ours, theirs in _KEYS.items()}
    return read_encoder("distilbert", fields.with_defaults(common), checkpoint)


def stages(config: EncoderConfig, checkpoint: Checkpoint) -> list[Stage]:
    """Embedding and layers, each normalized after its sum."""
    names = EncoderNames(
        checkpoint,
        first="embeddings.word_embeddings",
        layers="transformer.layer",
        prefixes=("", "distilbert."),
        gguf={},
    )
    epsilon = config.norm_epsilon
    layers: list[Stage] = [
        Embed(
            names.tensor("embeddings.word_embeddings"),
            positions=Table(names.tensor("embeddings.position_embeddings"), config.context_length),
            norm=names.norm("embeddings.LayerNorm", epsilon=epsilon),
        )
    ]
    for layer in range(config.num_layers):
        layers += [
            attention_of(
                config,
                query=names.linear("attention.q_lin", layer),
                key=names.linear("attention.k_lin", layer),
                value=names.linear("attention.v_lin", layer),
                output=names.linear("attention.out_lin", layer),
                residual_norm=names.norm("sa_layer_norm", layer, epsilon=epsilon),
            ),
            mlp_of(
                config,
                up=names.linear("ffn.lin1", layer),
                down=names.linear("ffn.lin2", layer),
                residual_norm=names.norm("output_layer_norm", layer, epsilon=epsilon),
            ),
        ]
    return layers


def heads(_fields: Fields) -> dict[str, EncoderHead]:
    """Two linear maps of the first token; a linear map of every token."""
    first = Dense(Linear("pre_classifier.weight", "pre_classifier.bias"), "relu")
    classifier = Dense(Linear("classifier.weight", "classifier.bias"))
    return {
        "SequenceClassification": EncoderHead("cls", (first, classifier)),
        "TokenClassification": EncoderHead(None, (classifier,)),
    }
