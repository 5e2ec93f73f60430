"""Method `finetune`: a pretrained encoder trained end to end, with `transformers`.

The tuned encoder is saved in the layout of the hub with mean pooling, and the engine runs it; the
layer on top is that of `EncoderScorer`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lepton.errors import ConfigurationError
from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.encoder_scorer import ENCODER_FOLDER, Encoder, EncoderScorer, encoder_for
from lepton.training.loop import Floats, Indices, Loop
from lepton.training.networks.tokens import padded
from lepton.training.scorers import Fitted, ProgressCallback
from lepton.training.selection import hold_out, outputs

_VALIDATION_BATCH = 64
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class TunedEncoder(nn.Module):
    """An encoder of `transformers`, the mean over its tokens, and a linear layer."""

    def __init__(self, encoder: Any, num_outputs: int, config: TrainingConfig) -> None:
        """Freeze the embeddings and the lowest layers where the configuration says so."""
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(int(encoder.config.hidden_size), num_outputs)
        if config.frozen_layers:
            layers = encoder.encoder.layer[: config.frozen_layers]
            for part in (encoder.embeddings, *layers):
                part.requires_grad_(False)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Scores [texts, outputs] of token ids [texts, tokens] of the given lengths."""
        mask = (torch.arange(ids.shape[1])[None, :] < lengths[:, None]).long()
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = (states * mask[..., None]).sum(dim=1) / lengths[:, None]
        scores: Tensor = self.head(self.dropout(pooled))
        return scores


def fit_finetune(
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,
    progress: ProgressCallback,
) -> Fitted:
    """Train all layers, or those above ``frozen_layers``; the best epoch is kept."""
    train, held_out = (
        (dataset, validation)
        if validation is not None
        else hold_out(dataset, config.validation_share, config.seed)
    )
    assert config.max_tokens is not None  # noqa: S101
    name = config.encoder or encoder_for(train.texts)
    source = _folder(name)
    rows, held_out_rows = (
        _tokens(source, part.texts, config.max_tokens) for part in (train, held_out)
    )
    torch.manual_seed(config.seed)
    module = TunedEncoder(_pretrained(source), outputs(dataset), config)

    def score(indices: Indices) -> Tensor:
        ids, lengths = padded([rows[index] for index in indices])
        result: Tensor = module(torch.from_numpy(ids), torch.from_numpy(lengths))
        return result

    def validate() -> Floats:
        found = np.zeros((len(held_out_rows), outputs(dataset)), np.float32)
        order = np.argsort([len(row) for row in held_out_rows], kind="stable")
        for start in range(0, len(order), _VALIDATION_BATCH):
            batch = order[start : start + _VALIDATION_BATCH]
            ids, lengths = padded([held_out_rows[index] for index in batch])
            found[batch] = module(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
        return found

    lengths = np.asarray([len(row) for row in rows], np.int64)
    trained = Loop(
        module,
        train,
        lengths,
        score,
        validate,
        held_out,
        config,
        state / "finetune.pt",
        progress,
    ).run()
    folder = state / ENCODER_FOLDER
    _save_encoder(module.encoder, source, folder, config.max_tokens)
    scorer = EncoderScorer(
        Encoder(str(folder), long_texts="truncate", normalize=False),
        module.head.weight.detach().numpy().T.copy(),
        module.head.bias.detach().numpy().copy(),
    )
    details = {"encoder": name, "score": trained.score, "epochs": len(trained.curves)}
    return Fitted(scorer, held_out, trained.scores, details, trained.curves)


def _folder(name: str) -> Path:
    """The encoder's folder in the layout of the hub.

    Raises:
        ModelNotFoundError: it is not on this machine.
        ConfigurationError: it is of another format, which `transformers` does not read.
    """
    from lepton.models.encoder_loader import load_any

    with load_any(name) as model:
        if model.checkpoint.format != "safetensors":
            raise ConfigurationError(
                f"{name} is no safetensors folder, which finetune starts from; method head takes "
                "it as it is"
            )
        return Path(model.path)


def _pretrained(folder: Path) -> Any:
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return AutoModel.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
    ).float()


def _tokens(folder: Path, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids with the special tokens of the model, at most ``max_tokens`` each."""
    import tokenizers

    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.no_padding()
    library.enable_truncation(max_tokens)
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    return [encoding.ids for encoding in library.encode_batch(clean)]


def _save_encoder(encoder: Any, source: Path, folder: Path, max_tokens: int) -> None:
    """Write a sentence-transformers folder: the encoder, then the mean over tokens."""
    shutil.rmtree(folder, ignore_errors=True)
    encoder.save_pretrained(folder, safe_serialization=True)
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ]
    pooling = {
        "word_embedding_dimension": int(encoder.config.hidden_size),
        "pooling_mode_mean_tokens": True,
    }
    (folder / "1_Pooling").mkdir()
    for file, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", {"max_seq_length": max_tokens}),
    ):
        (folder / file).write_text(json.dumps(value, indent=2) + "\n", "utf-8")
