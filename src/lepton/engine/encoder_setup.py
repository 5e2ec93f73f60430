"""From a model and the engine's options to an executor and a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lepton.engine.config import EngineConfig
from lepton.engine.encoder_memory import check_memory
from lepton.errors import ConfigurationError, ModelFormatError

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderModel
    from lepton.models.executors.encoder_base import EncoderExecutor


def build_executor(model: EncoderModel, config: EngineConfig) -> EncoderExecutor:
    """What runs a model; ConfigurationError when an option does not fit it or the machine."""
    if config.executor == "reference":
        from lepton.models.executors.encoder_reference import ReferenceEncoder

        return ReferenceEncoder(model)
    from lepton.models.executors.encoder_native import NativeEncoder

    check_memory(model, config)
    return NativeEncoder(
        model, threads=config.threads, dtype=config.dtype, quantize=config.quantize
    )


def max_tokens(model: EncoderModel, config: EngineConfig) -> int:
    """Tokens of one input, special ones included.

    Raises ConfigurationError, or ModelFormatError where the model's own limit cannot be.
    """
    limit = config.context_length
    if limit is not None and limit > model.context_length:
        raise ConfigurationError(
            f"context_length {limit} is beyond the {model.context_length} tokens the model knows"
        )
    around = _tokens_around(model)
    if limit is not None and limit <= around:
        raise ConfigurationError(
            f"context_length {limit} leaves no room for text beside {around} special tokens"
        )
    if model.max_tokens <= around and limit is None:
        raise ModelFormatError(
            f"inputs have at most {model.max_tokens} tokens ('max_seq_length' in "
            f"sentence_bert_config.json, or the model's positions), which leaves no room for text "
            f"beside {around} special tokens: give a larger context_length",
            file=model.path,
        )
    return limit or model.max_tokens


def _tokens_around(model: EncoderModel) -> int:
    """Special tokens of an input."""
    if model.judge is not None:
        return len(model.judge.before) + len(model.judge.after)
    tokenizer = model.tokenizer
    return tokenizer.special_tokens_of_pair if model.task == "rank" else tokenizer.special_tokens
