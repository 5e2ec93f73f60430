"""Fitting method `linear`: the cost of an error and the labels' weights are chosen, then refit."""

from __future__ import annotations

from pathlib import Path

from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.linear import (
    COSTS,
    LinearScorer,
    fit_features,
    fit_weights,
    row_coordinates,
    sparse_matrix,
)
from lepton.training.scorers import Fitted, ProgressCallback
from lepton.training.selection import choose_linear


def fit_linear_method(
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,  # noqa: ARG001
    progress: ProgressCallback,
) -> Fitted:
    """Fit TF-IDF and a linear model; choices on ``validation``, or by cross-validation.

    The vocabulary and the rarity of terms are those of all of the dataset's texts in every fold:
    what a fold is judged on has lent its words, not its labels.
    """
    progress("features", 0, None, {})
    features = fit_features(dataset.texts)
    matrix = sparse_matrix(features.rows(dataset.texts))
    checked = (sparse_matrix(features.rows(validation.texts)), validation) if validation else None

    def on_step(done: int, total: int, score: float) -> None:
        progress("choose", done, total, {"score": score})

    compared = matrix if validation else row_coordinates(matrix)
    choice = choose_linear(compared, dataset, config, COSTS, validation=checked, on_step=on_step)
    progress("fit", 0, None, {"score": choice.score})
    weight, bias = fit_weights(matrix, dataset, choice.apply(config), choice.cost)
    held_out = (validation or dataset).take(choice.held_out)
    details = {
        "cost": choice.cost,
        "class_weights": choice.class_weights,
        "score": choice.score,
        "terms": len(features.vocabulary),
    }
    scorer = LinearScorer(features, weight, bias)
    return Fitted(scorer, held_out, choice.held_out_scores, details)
