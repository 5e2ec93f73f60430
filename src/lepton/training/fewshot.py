"""Method `fewshot`: an encoder tuned on pairs of few rows, then a linear model on its vectors.

As SetFit (arXiv:2209.11055): the cosine of two texts shall be 1 where their labels are equal and 0
where they are not. All pairs of a batch are used, and of a long text another piece each time. The
encoder is tuned once for each fold too, so that scores and choices come from rows that neither it
nor the linear model has seen.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lepton.errors import ConfigurationError
from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.encoder_scorer import Encoder, EncoderScorer, encoder_for
from lepton.training.head import COSTS, TERM_WEIGHTS, joined, on_vectors_and_terms
from lepton.training.label_names import choose_share, name_vectors
from lepton.training.linear import fit_features, fit_weights, sparse_matrix
from lepton.training.loop import check_finite
from lepton.training.pretrained import Pretrained, find_pretrained, freeze, pool, save_encoder
from lepton.training.scorers import Fitted, Floats, ProgressCallback
from lepton.training.selection import Indices, clearly_better, cross_parts, judge

_FOLDS = 3


@dataclass(frozen=True)
class _Fold:
    """Rows to judge, and vectors of the encoder that has not seen them."""

    inside: Indices
    outside: Indices
    learned: Floats
    judged: Floats
    named: Floats | None
    """Scores of the labels' names for the rows to judge."""


@dataclass(frozen=True)
class _Choice:
    term_weight: float
    cost: float
    name_share: float
    scores: Floats
    """Of all rows judged, in the order of the dataset."""


def fit_fewshot(
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,
    progress: ProgressCallback,
) -> Fitted:
    """Tune, then choose the linear model's settings on ``validation`` or by cross-validation.

    Raises:
        ConfigurationError: the rows have several labels or numbers.
    """
    if dataset.objective != "single":
        raise ConfigurationError("method fewshot is for texts with one label each")
    assert config.max_tokens is not None  # noqa: S101
    source = find_pretrained(config.encoder or encoder_for(dataset.texts), config.max_tokens, state)
    together = dataset if validation is None else dataset.joined(validation)
    parts = (
        cross_parts(dataset, config.seed, _FOLDS)
        if validation is None
        else [(np.arange(len(dataset)), np.arange(len(dataset), len(together)))]
    )
    folds = []
    for number, (inside, outside) in enumerate(parts):
        folder = state / f"fold-{number}"
        encoder = _tuned(source, together.take(inside), config, folder, progress)
        vectors = encoder.embed(together.texts)
        names = name_vectors(encoder, dataset)
        named = None if names is None else vectors[outside] @ names
        folds.append(_Fold(inside, outside, vectors[inside], vectors[outside], named))
        if validation is None:
            shutil.rmtree(folder)
    if validation is None:
        encoder = _tuned(source, dataset, config, state / "all", progress)
    choice = _choose(together, folds, config)
    features = fit_features(dataset.texts)
    terms = sparse_matrix(features.rows(dataset.texts))
    vectors = encoder.embed(dataset.texts)
    matrix, bias = fit_weights(
        joined(vectors, terms, choice.term_weight), dataset, config, choice.cost
    )
    if (names := name_vectors(encoder, dataset)) is not None:
        matrix[: len(names)] += choice.name_share * names
    scorer: EncoderScorer = on_vectors_and_terms(
        encoder, features, matrix, bias, choice.term_weight, vectors.shape[1]
    )
    held_out = together.take(sorted(_judged_rows(folds)))
    details = {
        "encoder": source.name,
        "cost": choice.cost,
        "term_weight": choice.term_weight,
        "name_share": choice.name_share,
        "score": judge(choice.scores, held_out),
    }
    return Fitted(scorer, held_out, choice.scores, details)


def _judged_rows(folds: list[_Fold]) -> Indices:
    return np.concatenate([fold.outside for fold in folds])


def _choose(dataset: Dataset, folds: list[_Fold], config: TrainingConfig) -> _Choice:
    """The settings that usually do best, or others where they are clearly better."""
    matrices = []
    for fold in folds:
        inside, outside = dataset.take(fold.inside), dataset.take(fold.outside)
        features = fit_features(inside.texts)
        matrices.append(
            (
                inside,
                sparse_matrix(features.rows(inside.texts)),
                sparse_matrix(features.rows(outside.texts)),
            )
        )
    rows = _judged_rows(folds)
    in_order = np.argsort(rows)
    judged = dataset.take(rows[in_order])

    def judged_scores(weight: float, cost: float) -> Floats:
        found = []
        for fold, (inside, learned_terms, judged_terms) in zip(folds, matrices, strict=True):
            matrix, bias = fit_weights(
                joined(fold.learned, learned_terms, weight), inside, config, cost
            )
            found.append(joined(fold.judged, judged_terms, weight) @ matrix + bias)
        return np.concatenate(found).astype(np.float32)[in_order]

    (weight, cost), *others = product(TERM_WEIGHTS, COSTS)
    scores = judged_scores(weight, cost)
    for other in others:
        found = judged_scores(*other)
        if clearly_better(found, scores, judged):
            (weight, cost), scores = other, found
    named = [fold.named for fold in folds if fold.named is not None]
    if not named:
        return _Choice(weight, cost, 0.0, scores)
    on_names = np.concatenate(named)[in_order]
    share = choose_share(scores, on_names, judged)
    return _Choice(weight, cost, share, scores + share * on_names)


def _tuned(
    source: Pretrained,
    dataset: Dataset,
    config: TrainingConfig,
    state: Path,
    progress: ProgressCallback,
) -> Encoder:
    """Tune the encoder on pairs of ``dataset`` and save it below ``state``."""
    assert config.epochs is not None  # noqa: S101
    assert config.batch_size is not None  # noqa: S101
    assert config.learning_rate is not None  # noqa: S101
    torch.manual_seed(config.seed)
    encoder = source.encoder()
    freeze(encoder, config.frozen_layers)
    encoder.train()
    pieces = source.pieces(dataset.texts)
    targets = torch.from_numpy(dataset.targets)
    parameters = [each for each in encoder.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=0.0)
    batches = list(_batches(dataset, config))
    for number, batch in enumerate(batches):
        generator = np.random.default_rng((config.seed, number))
        rows = [pieces[row][generator.integers(len(pieces[row]))] for row in batch]
        loss = pair_loss(pool(encoder, rows, config.precision), targets[torch.from_numpy(batch)])
        check_finite(config, number * config.epochs // len(batches), loss.detach())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, config.max_gradient_norm)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - number / len(batches))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress("tune", number + 1, len(batches), {"loss": float(loss.detach())})
    check_finite(config, config.epochs - 1, *parameters)
    encoder.eval()
    state.mkdir(exist_ok=True)
    folder = save_encoder(encoder, source, state)
    return Encoder(str(folder), long_texts="window")


def pair_loss(vectors: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of the cosines of all pairs, equal and unequal pairs weighing alike.

    Vectors are [texts, dimensions], targets [texts].
    """
    unit = nn.functional.normalize(vectors, dim=1)
    cosines = unit @ unit.T
    equal = targets[:, None] == targets[None, :]
    pairs = torch.ones_like(equal).triu(diagonal=1)
    losses = (cosines - equal.float()) ** 2
    kinds = [losses[pairs & kind] for kind in (equal, ~equal)]
    return torch.stack([kind.mean() for kind in kinds if len(kind)]).mean()


def _batches(dataset: Dataset, config: TrainingConfig) -> Iterator[Indices]:
    """Every row once an epoch, in random order; a rest too small for pairs is left out."""
    assert config.epochs is not None  # noqa: S101
    assert config.batch_size is not None  # noqa: S101
    for epoch in range(config.epochs):
        order = np.random.default_rng((config.seed, epoch)).permutation(len(dataset))
        for start in range(0, len(order), config.batch_size):
            batch = order[start : start + config.batch_size]
            if len(batch) > 1:
                yield batch
