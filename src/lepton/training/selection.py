"""Choices made on rows that were not trained on: hold-out rows, or folds taken in turn."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.data.splitting import folds, split
from lepton.errors import DataError
from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.linear import fit_weights
from lepton.training.metrics import decide, validation_score

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_FOLDS = 5
_MANY_ROWS = 1000
"""From here on three folds tell enough."""
_FEW_JUDGED = 200
"""From here on the better of two settings is taken; on fewer rows it must be clearly better."""


@dataclass(frozen=True)
class LinearChoice:
    """The setting of a linear model that did best, and its scores on rows not fitted to."""

    cost: float
    class_weights: bool
    score: float
    held_out: Indices
    held_out_scores: Floats

    def apply(self, config: TrainingConfig) -> TrainingConfig:
        """``config`` with the chosen weighting of labels."""
        return replace(config, class_weights=self.class_weights)


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Training and validation rows: groups of the dataset stay together, labels keep their shares.

    A label too rare for its share gives its smallest group, if it has two or more.

    Raises:
        DataError: no label has two groups.
    """
    groups = dataset.groups
    parts = split(
        strata(dataset), groups=groups.tolist(), fractions=(1 - share, share, 0.0), seed=seed
    )
    chosen = np.zeros(len(dataset), np.bool_)
    chosen[parts.dev] = True
    for rows in dataset.by_label():
        names, sizes = np.unique(groups[rows], return_counts=True)
        if len(names) > 1 and not chosen[rows].any():
            chosen |= groups == names[sizes.argmin()]
    if not chosen.any():
        raise _too_alike()
    return dataset.take(np.flatnonzero(~chosen)), dataset.take(np.flatnonzero(chosen))


def strata(dataset: Dataset) -> Sequence[Hashable]:
    """What a split keeps the shares of: the label, the set of labels, or the tenth of a number."""
    if dataset.objective == "single":
        return [int(target) for target in dataset.targets]
    if dataset.objective == "multi":
        return [tuple(np.flatnonzero(row).tolist()) for row in dataset.targets]
    edges = np.quantile(dataset.targets, np.linspace(0.1, 0.9, 9))
    return [int(tenth) for tenth in np.searchsorted(edges, dataset.targets)]


def choose_linear(
    matrix: Any,
    dataset: Dataset,
    config: TrainingConfig,
    costs: Sequence[float],
    *,
    weightings: Sequence[bool] | None = None,
    validation: tuple[Any, Dataset] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> LinearChoice:
    """Try every cost, with labels weighted and not, and keep the best.

    Args:
        matrix: features of the dataset's rows, dense or sparse.
        dataset: rows to learn from.
        config: ``class_weights`` leaves only the weighted ones to choose from.
        costs: see `lepton.training.linear.fit_weights`.
        weightings: whether to weigh labels; None tries both.
        validation: features and rows to choose on; folds of ``dataset`` if not given.
        on_step: told fits done, fits in all and the best score so far.
    """
    parts = _parts(matrix, dataset, config.seed) if validation is None else None
    if weightings is None:
        fixed = config.class_weights or dataset.objective == "regression"
        weightings = (True,) if fixed else (False, True)
    best: LinearChoice | None = None
    tried, total = 0, len(costs) * len(weightings)
    for class_weights in weightings:
        weighted = replace(config, class_weights=class_weights)
        for cost in costs:
            if parts is None:
                assert validation is not None  # noqa: S101
                weight, bias = fit_weights(matrix, dataset, weighted, cost)
                scores = np.asarray(validation[0] @ weight + bias, np.float32)
                rows, judged = np.arange(len(validation[1])), validation[1]
            else:
                scores = np.zeros((len(dataset), outputs(dataset)), np.float32)
                for inside, outside in parts:
                    weight, bias = fit_weights(matrix[inside], dataset.take(inside), weighted, cost)
                    scores[outside] = matrix[outside] @ weight + bias
                rows, judged = np.arange(len(dataset)), dataset
            score = judge(scores, judged)
            if best is None or score > best.score:
                best = LinearChoice(cost, class_weights, score, rows, scores)
            tried += 1
            if on_step is not None:
                on_step(tried, total, best.score)
    assert best is not None  # noqa: S101
    return best


def judge(scores: npt.NDArray[Any], dataset: Dataset) -> float:
    """The validation score of ``scores`` [rows, outputs]."""
    predicted = decide(scores, dataset.objective)
    return validation_score(predicted, dataset.targets, dataset.objective, outputs(dataset))


def clearly_better(scores: Floats, usual: Floats, dataset: Dataset) -> bool:
    """Whether ``scores`` do better than the ``usual`` ones, on few rows by more than chance makes.

    The difference must then exceed its standard error, which of two models on the same rows comes
    from the rows that they decide differently. Without this, the best of several settings on few
    rows is mostly the luckiest.
    """
    gain = judge(scores, dataset) - judge(usual, dataset)
    if len(dataset) >= _FEW_JUDGED:
        return gain > 0
    decided, before = (decide(each, dataset.objective) for each in (scores, usual))
    changed = int(np.count_nonzero(decided != before))
    return gain > float(np.sqrt(changed)) / len(dataset)


def outputs(dataset: Dataset) -> int:
    """How many numbers a model gives for a text."""
    return len(dataset.labels) or 1


def cross_parts(dataset: Dataset, seed: int, count: int) -> list[tuple[Indices, Indices]]:
    """(train, test) indices of at most ``count`` folds that keep groups of the dataset together.

    Raises:
        DataError: all rows are of one group.
    """
    groups = dataset.groups.tolist()
    count = min(count, len(set(groups)))
    if count < 2:
        raise _too_alike()
    return folds(strata(dataset), count, groups=groups, seed=seed)


def _too_alike() -> DataError:
    return DataError(
        "the texts of each label are equal or rewrites of one: no choice could be checked. "
        "Add other texts, or give validation data"
    )


def _parts(matrix: Any, dataset: Dataset, seed: int) -> list[tuple[Indices, Indices]]:
    assert matrix.shape[0] == len(dataset)  # noqa: S101
    return cross_parts(dataset, seed, 3 if len(dataset) >= _MANY_ROWS else _FOLDS)


def batches(
    num_rows: int, size: int, generator: np.random.Generator | None = None
) -> Iterator[Indices]:
    """Row indices in batches, shuffled if a generator is given."""
    order = np.arange(num_rows) if generator is None else generator.permutation(num_rows)
    for start in range(0, num_rows, size):
        yield order[start : start + size]
