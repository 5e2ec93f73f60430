"""`evaluate`: what a model is worth on rows it has never seen, with `linear` beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.errors import ConfigurationError, DataError
from lepton.training.dataset import Dataset
from lepton.training.metrics import (
    Interval,
    by_label,
    calibration,
    confusion_matrix,
    coverage_curve,
    decide,
    mcnemar,
    summary,
    threshold_for,
)
from lepton.training.probabilities import fit_temperature, negative_log_likelihood
from lepton.training.run import BASELINE, CURVES, is_run, locate_run
from lepton.training.slices import slices, with_typos
from lepton.training.trained_model import TrainedModel

WORST = 25
_TARGET_ACCURACIES = (0.9, 0.95, 0.98, 0.99)
_CURVE_POINTS = 200

StageCallback = Callable[[str], object]


@dataclass(frozen=True)
class Answers:
    """One model's answers to the test set."""

    model: TrainedModel
    scores: npt.NDArray[np.float32]
    predicted: npt.NDArray[Any]
    right: npt.NDArray[np.bool_]
    """Where it is exactly right; for a regression, within half a standard deviation."""


@dataclass(frozen=True)
class Evaluation:
    """Everything measured, as JSON in ``values``; see docs/training.md for the fields."""

    values: Mapping[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """The headline numbers by name."""
        return {name: entry["value"] for name, entry in self.values["metrics"].items()}

    def failures(self, least: Mapping[str, float]) -> list[str]:
        """What misses the given floors (ceilings for ``mse`` and ``calibration_error``).

        Raises:
            ConfigurationError: a name is not measured.
        """
        failed = []
        for name, bound in least.items():
            if name not in self.metrics:
                raise ConfigurationError(
                    f"{name!r} is not measured; choose among: {', '.join(self.metrics)}"
                )
            value = self.metrics[name]
            lower_is_better = name in ("mse", "calibration_error")
            if value > bound if lower_is_better else value < bound:
                failed.append(
                    f"{name} {value:.4f} is {'over' if lower_is_better else 'under'} {bound:g}"
                )
        return failed


def evaluate(
    run: str | Path,
    dataset: Dataset,
    *,
    against: str | Path | None = None,
    seed: int = 0,
    on_stage: StageCallback = lambda _: None,
) -> Evaluation:
    """Measure a run on a labelled test set.

    Args:
        run: a run.
        dataset: rows with the run's labels and objective.
        against: another run, compared by McNemar's test; the `linear` model inside the run is
            compared always.
        seed: of resampling and typos.
        on_stage: told what is being done.

    Raises:
        DataError: the rows do not have the run's labels.
        ModelNotFoundError: there is no such run.
    """
    folder = locate_run(run)
    model = TrainedModel.load(folder)
    _check(model, dataset)
    on_stage("score")
    answers = _answers(model, dataset)
    values: dict[str, Any] = {
        "run": model.name,
        "method": model.manifest.method,
        "objective": dataset.objective,
        "labels": list(model.labels),
        "rows": len(dataset),
        "data_fingerprint": dataset.fingerprint(),
        "seen_in_training": dataset.fingerprint() == model.manifest.data_fingerprint,
        "metrics": _intervals(_summary(answers, dataset, seed)),
    }
    if dataset.objective != "regression":
        values["by_label"] = by_label(
            answers.predicted, dataset.targets, dataset.objective, model.labels
        )
        values["curves"] = _ranking_curves(answers, dataset)
    if dataset.objective == "single":
        values |= _decisions(answers, dataset)
        values["metrics"]["calibration_error"] = {"value": values["calibration"]["error"]}
    else:
        values["scatter"] = _scatter(answers, dataset)
    on_stage("slices")
    values["slices"] = _slices(model, answers, dataset, seed)
    values["worst"] = _worst(answers, dataset)
    values["compared"] = _compared(folder, against, answers, dataset, seed, on_stage)
    if (folder / CURVES).is_file():
        values["training_curves"] = (folder / CURVES).read_text("utf-8")
    return Evaluation(values)


def _check(model: TrainedModel, dataset: Dataset) -> None:
    if dataset.objective != model.manifest.objective or (
        dataset.objective != "regression" and dataset.labels != model.labels
    ):
        raise DataError(f"the rows do not have the labels or the objective of {model.name}")


def _answers(model: TrainedModel, dataset: Dataset) -> Answers:
    scores = model.scores(dataset.texts)
    predicted = decide(scores, dataset.objective)
    if dataset.objective == "single":
        right = predicted == dataset.targets
    elif dataset.objective == "multi":
        right = (predicted == dataset.targets).all(axis=1)
    else:
        right = np.abs(predicted - dataset.targets) <= 0.5 * dataset.targets.std()
    return Answers(model, scores, predicted, right)


def _summary(answers: Answers, dataset: Dataset, seed: int) -> dict[str, Interval]:
    outputs = len(dataset.labels) or 1
    return summary(answers.predicted, dataset.targets, dataset.objective, outputs, seed=seed)


def _intervals(numbers: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: asdict(number) for name, number in numbers.items()}


def _decisions(answers: Answers, dataset: Dataset) -> dict[str, Any]:
    """Confusion, calibration and what a threshold would do."""
    probabilities = answers.model.as_probabilities(answers.scores)
    confidence = probabilities.max(axis=1)
    bins, error = calibration(confidence, answers.right)
    temperature = answers.model.manifest.temperature
    matrix = confusion_matrix(answers.predicted, dataset.targets, len(dataset.labels))
    thresholds = {
        f"{accuracy:g}": threshold_for(confidence, answers.right, accuracy)
        for accuracy in _TARGET_ACCURACIES
    }
    return {
        "confusion": matrix.tolist(),
        "calibration": {
            "temperature": temperature,
            "bins": bins,
            "error": error,
            "log_loss": negative_log_likelihood(
                answers.scores, dataset.targets, "single", temperature
            ),
            "best_temperature_here": fit_temperature(answers.scores, dataset.targets, "single"),
        },
        "coverage": coverage_curve(confidence, answers.right),
        "threshold_for_accuracy": thresholds,
    }


def _ranking_curves(answers: Answers, dataset: Dataset) -> dict[str, Any]:
    """Precision-recall and ROC of each label against the rest, thinned out for drawing."""
    from sklearn.metrics import auc as area
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

    chances = answers.model.as_probabilities(answers.scores)
    curves = {}
    for index, label in enumerate(dataset.labels):
        actual = (
            dataset.targets == index
            if dataset.objective == "single"
            else dataset.targets[:, index] > 0.5
        )
        if actual.all() or not actual.any():
            continue
        precision, recall, _ = precision_recall_curve(actual, chances[:, index])
        false, true, _ = roc_curve(actual, chances[:, index])
        curves[label] = {
            "average_precision": float(average_precision_score(actual, chances[:, index])),
            "roc_auc": float(area(false, true)),
            "precision_recall": _thinned(recall, precision),
            "roc": _thinned(false, true),
        }
    return curves


def _thinned(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> list[list[float]]:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), _CURVE_POINTS)).astype(int))
    return [[round(float(x[i]), 5), round(float(y[i]), 5)] for i in kept]


def _scatter(answers: Answers, dataset: Dataset) -> list[list[float]]:
    if dataset.objective != "regression":
        return []
    kept = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), 1000)).astype(int))
    return [[float(dataset.targets[i]), float(answers.predicted[i])] for i in kept]


def _slices(
    model: TrainedModel, answers: Answers, dataset: Dataset, seed: int
) -> dict[str, dict[str, Any]]:
    found = {}
    for name, mask in slices(dataset.texts).items():
        part = dataset.take(np.flatnonzero(mask))
        there = Answers(model, answers.scores[mask], answers.predicted[mask], answers.right[mask])
        found[name] = {"rows": len(part), **_intervals(_summary(there, part, seed))}
    misspelt = Dataset(
        tuple(with_typos(dataset.texts, seed=seed)),
        dataset.targets,
        dataset.labels,
        dataset.objective,
    )
    measured = _intervals(_summary(_answers(model, misspelt), misspelt, seed))
    found["all, with typos added"] = {"rows": len(misspelt), **measured}
    return found


def _worst(answers: Answers, dataset: Dataset) -> list[dict[str, Any]]:
    """The mistakes that the model was surest of, or the numbers furthest off."""
    if dataset.objective == "regression":
        off = np.abs(answers.predicted - dataset.targets)
        order = np.argsort(-off)[:WORST]
        return [
            {
                "text": dataset.texts[i],
                "actual": float(dataset.targets[i]),
                "predicted": float(answers.predicted[i]),
            }
            for i in order
        ]
    probabilities = answers.model.as_probabilities(answers.scores)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(~answers.right)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST]
    names = np.asarray(dataset.labels, object)

    def named(row: Any) -> str:
        if dataset.objective == "single":
            return str(names[int(row)])
        return "|".join(names[np.flatnonzero(row)])

    return [
        {
            "text": dataset.texts[i],
            "actual": named(dataset.targets[i]),
            "predicted": named(answers.predicted[i]),
            "probability": float(confidence[i]),
        }
        for i in order
    ]


def _compared(
    folder: Path,
    against: str | Path | None,
    answers: Answers,
    dataset: Dataset,
    seed: int,
    on_stage: StageCallback,
) -> list[dict[str, Any]]:
    """The `linear` model of the run, and another run, on the same rows."""
    others: list[Path] = []
    if is_run(folder / BASELINE):
        others.append(folder / BASELINE)
    if against is not None:
        others.append(locate_run(against))
    compared = []
    for other in others:
        on_stage("compare")
        model = TrainedModel.load(other)
        _check(model, dataset)
        theirs = _answers(model, dataset)
        entry: dict[str, Any] = {
            "run": model.name,
            "method": model.manifest.method,
            "metrics": _intervals(_summary(theirs, dataset, seed)),
        }
        if dataset.objective != "regression":
            entry["mcnemar"] = mcnemar(answers.right, theirs.right)
        compared.append(entry)
    return compared
