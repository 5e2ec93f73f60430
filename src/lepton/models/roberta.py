"""RoBERTa, arXiv:1907.11692, and XLM-RoBERTa, arXiv:1911.02116: BGE-M3, multilingual E5."""

from __future__ import annotations

from dataclasses import replace

from lepton.models.bert import bert_stages
from lepton.models.encoder import EncoderConfig, EncoderHead, read_encoder
from lepton.models.fields import Fields
from lepton.models.stages import Dense, Linear, Stage
from lepton.models.weights import Checkpoint

_POSITION_OFFSET = 2
"""The padding token has number 1, and positions begin after it."""


def configure(fields: Fields, checkpoint: Checkpoint) -> EncoderConfig:
    """Read the configuration; ``max_position_embeddings`` counts the rows never used too."""
    if fields.get("pad_token_id") not in (None, 1):
        raise fields.error("pad_token_id", "is not 1, where positions of this family begin")
    config = read_encoder("roberta", fields, checkpoint)
    if config.context_length <= _POSITION_OFFSET:
        raise fields.error("max_position_embeddings", f"is {config.context_length}: too few")
    return replace(config, context_length=config.context_length - _POSITION_OFFSET)


def stages(config: EncoderConfig, checkpoint: Checkpoint) -> list[Stage]:
    """Embedding and layers, each normalized after its sum."""
    return bert_stages(
        config, checkpoint, prefixes=("", "roberta."), position_offset=_POSITION_OFFSET
    )


def heads(_fields: Fields) -> dict[str, EncoderHead]:
    """Two linear maps of the first token; a linear map of every token."""
    dense = Dense(Linear("classifier.dense.weight", "classifier.dense.bias"), "tanh")
    output = Dense(Linear("classifier.out_proj.weight", "classifier.out_proj.bias"))
    classifier = Dense(Linear("classifier.weight", "classifier.bias"))
    return {
        "SequenceClassification": EncoderHead("cls", (dense, output)),
        "TokenClassification": EncoderHead(None, (classifier,)),
    }
