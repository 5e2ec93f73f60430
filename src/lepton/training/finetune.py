"""Method `finetune`: a pretrained encoder trained end to end, with `transformers`.

The tuned encoder is saved in the layout of the hub with mean pooling, and the engine runs it; the
layer on top is that of `EncoderScorer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lepton.training.blend import add_terms
from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.encoder_scorer import Encoder, EncoderScorer, encoder_for
from lepton.training.loop import Floats, Indices, Loop
from lepton.training.pretrained import find_pretrained, freeze, pool, save_encoder
from lepton.training.scorers import Fitted, ProgressCallback
from lepton.training.selection import hold_out, outputs

_VALIDATION_BATCH = 64


class TunedEncoder(nn.Module):
    """An encoder of `transformers`, the mean over its tokens, and a linear layer."""

    def __init__(self, encoder: Any, num_outputs: int, config: TrainingConfig) -> None:
        """Freeze the embeddings and the lowest layers where the configuration says so."""
        super().__init__()
        self.encoder = encoder
        self.precision = config.precision
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(int(encoder.config.hidden_size), num_outputs)
        freeze(encoder, config.frozen_layers)

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Scores [texts, outputs] of the texts' token ids."""
        pooled = pool(self.encoder, rows, self.precision)
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
    source = find_pretrained(config.encoder or encoder_for(train.texts), config.max_tokens, state)
    rows, held_out_rows = source.tokens(train.texts), source.tokens(held_out.texts)
    torch.manual_seed(config.seed)
    module = TunedEncoder(source.encoder(), outputs(dataset), config)

    def score(indices: Indices) -> Tensor:
        result: Tensor = module([rows[index] for index in indices])
        return result

    def validate() -> Floats:
        found = np.zeros((len(held_out_rows), outputs(dataset)), np.float32)
        order = np.argsort([len(row) for row in held_out_rows], kind="stable")
        for start in range(0, len(order), _VALIDATION_BATCH):
            batch = order[start : start + _VALIDATION_BATCH]
            found[batch] = module([held_out_rows[index] for index in batch]).numpy()
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
    folder = save_encoder(module.encoder, source, state)
    scorer = EncoderScorer(
        Encoder(str(folder), long_texts="truncate", normalize=False),
        module.head.weight.detach().numpy().T.copy(),
        module.head.bias.detach().numpy().copy(),
    )
    scorer, scores, chosen = add_terms(scorer, trained.scores, train, held_out, config)
    details = {"encoder": source.name, "epochs": len(trained.curves), **chosen}
    return Fitted(scorer, held_out, scores, details, trained.curves)
