"""`evaluate`: what a model is worth on rows it has never seen, with `linear` beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.errors import ConfigurationError, DataError
from lepton.training.confidence import calibration, coverage_curve, decisions, threshold_for
from lepton.training.config import Objective
from lepton.training.curves import ranking_curves, scatter
from lepton.training.dataset import Dataset
from lepton.training.metrics import (
    CALIBRATION_ERROR,
    LOWER_IS_BETTER,
    Interval,
    by_label,
    confusion_matrix,
    decide,
    mcnemar,
    measures,
    summary,
)
from lepton.training.probabilities import fit_temperature, negative_log_likelihood
from lepton.training.run import BASELINE, CURVES, is_run, locate_run
from lepton.training.slices import slices, with_typos
from lepton.training.trained_model import TrainedModel

WORST = 25
_TARGET_ACCURACIES = (0.9, 0.95, 0.98, 0.99)

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
        check_measures(least, self.values["objective"])
        failed = []
        for name, bound in least.items():
            value = self.metrics[name]
            lower_is_better = name in LOWER_IS_BETTER
            if value > bound if lower_is_better else value < bound:
                failed.append(
                    f"{name} {value:.4f} is {'over' if lower_is_better else 'under'} {bound:g}"
                )
        return failed


def check_measures(names: Iterable[str], objective: Objective) -> None:
    """Refuse a name that is not measured.

    Raises:
        ConfigurationError: a name is none of the headline numbers of the objective.
    """
    known = measures(objective)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{unknown[0]!r:.80} is not measured; choose among: {', '.join(known)}"
        )


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
    if dataset.objective == "regression":
        values["scatter"] = scatter(answers.predicted, dataset.targets)
    else:
        labels = by_label(
            answers.predicted, dataset.targets, dataset.objective, model.labels, seed=seed
        )
        values["by_label"] = {label: asdict(numbers) for label, numbers in labels.items()}
        values["curves"] = ranking_curves(model.as_probabilities(answers.scores), dataset)
        values["calibration"] = _calibration(answers, dataset)
        values["metrics"][CALIBRATION_ERROR] = {"value": values["calibration"]["error"]}
    if dataset.objective == "single":
        values |= _thresholds(answers, dataset)
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


def _calibration(answers: Answers, dataset: Dataset) -> dict[str, Any]:
    probabilities = answers.model.as_probabilities(answers.scores)
    bins, error = calibration(
        *decisions(probabilities, answers.predicted, dataset.targets, dataset.objective)
    )
    temperature = answers.model.manifest.temperature
    return {
        "temperature": temperature,
        "bins": bins,
        "error": error,
        "log_loss": negative_log_likelihood(
            answers.scores, dataset.targets, dataset.objective, temperature
        ),
        "best_temperature_here": fit_temperature(
            answers.scores, dataset.targets, dataset.objective
        ),
    }


def _thresholds(answers: Answers, dataset: Dataset) -> dict[str, Any]:
    """Confusion, and what a threshold would do."""
    confidence = answers.model.as_probabilities(answers.scores).max(axis=1)
    matrix = confusion_matrix(answers.predicted, dataset.targets, len(dataset.labels))
    return {
        "confusion": matrix.tolist(),
        "coverage": coverage_curve(confidence, answers.right),
        "threshold_for_accuracy": {
            f"{accuracy:g}": threshold_for(confidence, answers.right, accuracy)
            for accuracy in _TARGET_ACCURACIES
        },
    }


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
