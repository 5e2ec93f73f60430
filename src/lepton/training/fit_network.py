"""Fitting `bag`, `cnn`, `bilstm` and `transformer`: networks trained from nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lepton.training.config import WIDTH, TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.loop import Floats, Indices, Loop
from lepton.training.networks.scorer import NetworkScorer
from lepton.training.networks.stages import build
from lepton.training.networks.tokens import NetworkTokenizer, padded
from lepton.training.networks.torch_executor import TorchNetwork
from lepton.training.scorers import Fitted, ProgressCallback
from lepton.training.selection import hold_out, outputs
from lepton.training.vectors import corpus_vectors, read_vectors, vectors_width

_VALIDATION_BATCH = 128


def fit_network(
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,
    progress: ProgressCallback,
) -> Fitted:
    """Learn tokens, then the network; the epoch that does best on held-out rows is kept."""
    train, held_out = (
        (dataset, validation)
        if validation is not None
        else hold_out(dataset, config.validation_share, config.seed)
    )
    progress("features", 0, None, {})
    file = config.vectors_file
    width = config.width or (vectors_width(file) if file else WIDTH)
    config = replace(config, width=width)
    assert config.max_tokens is not None  # noqa: S101
    tokenizer = NetworkTokenizer.train(
        train.texts, config.vocabulary_size, config.max_tokens, whole_words=file is not None
    )
    rows = tokenizer.encode(train.texts)
    held_out_rows = tokenizer.encode(held_out.texts)
    vectors = None
    if config.vectors is not None:
        progress("vectors", 0, None, {})
        vectors = (
            read_vectors(file, tokenizer.pieces(), width)
            if file
            else corpus_vectors(rows, tokenizer.size, width, config.seed)
        )
    torch.manual_seed(config.seed)
    network = build(config.method, config, tokenizer.size, outputs(dataset))
    module = TorchNetwork(network, config.dropout, vectors)

    def score(indices: Indices) -> torch.Tensor:
        ids, lengths = padded([rows[index] for index in indices])
        result: torch.Tensor = module(torch.from_numpy(ids), torch.from_numpy(lengths))
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
    kept = state / f"{config.method}.pt"
    trained = Loop(module, train, lengths, score, validate, held_out, config, kept, progress).run()
    details = {
        "score": trained.score,
        "epochs": len(trained.curves),
        "vocabulary": tokenizer.size,
        "parameters": sum(value.size for value in module.exported().values()),
    }
    scorer = NetworkScorer(config.method, config, tokenizer, module.exported())
    return Fitted(scorer, held_out, trained.scores, details, trained.curves)
