"""How good predictions are: numbers with what chance could make of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.training.config import Objective

Array = npt.NDArray[Any]

CALIBRATION_ERROR = "calibration_error"
LOWER_IS_BETTER = frozenset({"mse", CALIBRATION_ERROR})
_ROUNDING = 1e-12
"""A spread below this share of the sum of squares is an error of rounding."""


@dataclass(frozen=True)
class Interval:
    """A number and the interval that holds 95 % of its bootstrap resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LabelSummary:
    """How well one label is told."""

    precision: Interval
    recall: Interval
    f1: Interval
    support: int
    """Rows that have it."""


def decide(scores: Array, objective: Objective) -> Array:
    """Targets as scores choose them: the best label, every label above 0, or the number."""
    if objective == "single":
        best: Array = scores.argmax(axis=1)
        return best
    if objective == "multi":
        return (scores > 0).astype(np.float32)
    return scores[:, 0].astype(np.float64)


def validation_score(predicted: Array, targets: Array, objective: Objective, outputs: int) -> float:
    """The number that choices are made by: macro-F1, or R² for numbers."""
    if objective == "regression":
        return r_squared(predicted, targets)
    counts = label_counts(predicted, targets, objective, outputs)
    return float(counts.macro(counts.f1()))


def r_squared(predicted: Array, targets: Array) -> float:
    """1 - residual / total sum of squares; 0 where all targets are equal."""
    centred = targets - targets.mean()
    total, error = (centred**2).sum(), ((targets - predicted) ** 2).sum()
    return float(_explained(error, np.asarray(0.0 if np.ptp(targets) == 0 else total)))


@dataclass(frozen=True)
class LabelCounts:
    """True positives, predicted and actual occurrences, each [..., labels]."""

    hits: Array
    predicted: Array
    actual: Array

    def precision(self) -> Array:
        """Hits among what was predicted; 0 for a label never predicted."""
        return _ratio(self.hits, self.predicted)

    def recall(self) -> Array:
        """Hits among what was there; 0 for a label that never occurred."""
        return _ratio(self.hits, self.actual)

    def f1(self) -> Array:
        """Harmonic mean of precision and recall; 0 where a label has neither."""
        return _ratio(2.0 * self.hits, self.predicted + self.actual)

    def macro(self, values: Array) -> Array:
        """The mean of ``values`` over the labels that occurred or were predicted: [...]."""
        seen = (self.predicted + self.actual) > 0
        return _ratio((values * seen).sum(axis=-1), seen.sum(axis=-1))

    def micro(self) -> LabelCounts:
        """The counts of all labels taken together, as of one label: [..., 1]."""
        sums = (self.hits, self.predicted, self.actual)
        return LabelCounts(*(values.sum(axis=-1, keepdims=True) for values in sums))


def label_counts(
    predicted: Array,
    targets: Array,
    objective: Objective,
    outputs: int,
    weights: Array | None = None,
) -> LabelCounts:
    """Count by label; with ``weights`` [samples, rows] once for each resample."""
    if objective == "single":
        one_hot = np.eye(outputs, dtype=np.float32)
        predicted, targets = one_hot[predicted], one_hot[targets]
    hits = predicted * targets
    if weights is None:
        weights = np.ones(len(targets), np.float32)
    return LabelCounts(weights @ hits, weights @ predicted, weights @ targets)


def resamples(num_rows: int, count: int, seed: int) -> npt.NDArray[np.float32]:
    """How often each bootstrap resample takes each row: float32 [count, rows]."""
    generator = np.random.default_rng(seed)
    shares = np.full(num_rows, 1.0 / num_rows)
    return generator.multinomial(num_rows, shares, size=count).astype(np.float32)


def interval(value: float, samples: Array) -> Interval:
    """``value`` with the 2.5 and 97.5 % points of ``samples``."""
    low, high = np.percentile(samples, (2.5, 97.5))
    return Interval(float(value), float(low), float(high))


def measures(objective: Objective) -> tuple[str, ...]:
    """The names of the headline numbers: those of `summary`, and how far calibration is off."""
    if objective == "regression":
        return ("mse", "r2")
    nothing = LabelCounts(np.zeros(1), np.zeros(1), np.zeros(1))
    return (*_headline(nothing, np.zeros(()), objective), CALIBRATION_ERROR)


def summary(
    predicted: Array,
    targets: Array,
    objective: Objective,
    outputs: int,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """The headline numbers with 95 % bootstrap intervals (resampled rows, percentiles).

    Accuracy of `multi` asks for the exact set of labels. Of `single`, micro precision, recall and
    F1 are the accuracy, and only F1 is given.
    """
    blocks = _blocks(len(targets), num_resamples, seed)
    if objective == "regression":
        squares = (targets - predicted) ** 2
        # Of numbers far from 0 the squares would drown their spread.
        centred = targets - targets.mean()
        mse, r2 = [], []
        for weights in blocks:
            total = weights.sum(axis=1)
            error = weights @ squares
            raw = weights @ centred**2
            spread = raw - (weights @ centred) ** 2 / total
            mse.append(error / total)
            r2.append(_explained(error, np.where(spread > _ROUNDING * raw, spread, 0.0)))
        return {
            "mse": interval(float(squares.mean()), np.concatenate(mse)),
            "r2": interval(r_squared(predicted, targets), np.concatenate(r2)),
        }
    right = predicted == targets if objective == "single" else (predicted == targets).all(axis=1)
    samples: dict[str, list[Array]] = {}
    for weights in blocks:
        counts = label_counts(predicted, targets, objective, outputs, weights)
        for name, value in _headline(counts, weights @ right / len(right), objective).items():
            samples.setdefault(name, []).append(value)
    counts = label_counts(predicted, targets, objective, outputs)
    values = _headline(counts, np.asarray(right.mean()), objective)
    return {
        name: interval(float(value), np.concatenate(samples[name]))
        for name, value in values.items()
    }


def by_label(
    predicted: Array,
    targets: Array,
    objective: Objective,
    labels: tuple[str, ...],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, LabelSummary]:
    """Each label's numbers with 95 % bootstrap intervals; a resample without the label counts 0."""

    def numbers(weights: Array | None = None) -> Array:
        counts = label_counts(predicted, targets, objective, len(labels), weights)
        return np.stack([counts.precision(), counts.recall(), counts.f1()])

    blocks = [numbers(weights) for weights in _blocks(len(targets), num_resamples, seed)]
    bounds = np.percentile(np.concatenate(blocks, axis=1), (2.5, 97.5), axis=1)
    support = label_counts(predicted, targets, objective, len(labels)).actual
    # [value, low, high; precision, recall, F1; labels]
    found = np.stack([numbers(), *bounds]).astype(float)
    summaries = {}
    for index, label in enumerate(labels):
        precision, recall, f1 = (Interval(*found[:, kind, index].tolist()) for kind in range(3))
        summaries[label] = LabelSummary(precision, recall, f1, int(support[index]))
    return summaries


def confusion_matrix(predicted: Array, targets: Array, outputs: int) -> npt.NDArray[np.int64]:
    """Rows are what was right, columns what was predicted: int64 [labels, labels]."""
    flat = np.bincount(targets * outputs + predicted, minlength=outputs * outputs)
    return flat.reshape(outputs, outputs).astype(np.int64)


def mcnemar(right_a: Array, right_b: Array) -> dict[str, float]:
    """McNemar's exact test on two models' answers to the same texts.

    Returns:
        How many texts only A and only B had right, and the two-sided binomial p-value.
    """
    from scipy.stats import binomtest

    only_a = int((right_a & ~right_b).sum())
    only_b = int((right_b & ~right_a).sum())
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {"only_first": only_a, "only_second": only_b, "p_value": float(p_value)}


def _headline(counts: LabelCounts, accuracy: Array, objective: Objective) -> dict[str, Array]:
    together = counts.micro()
    numbers = {
        "accuracy": accuracy,
        "macro_f1": counts.macro(counts.f1()),
        "micro_f1": together.f1()[..., 0],
        "macro_precision": counts.macro(counts.precision()),
        "macro_recall": counts.macro(counts.recall()),
    }
    if objective == "multi":
        numbers["micro_precision"] = together.precision()[..., 0]
        numbers["micro_recall"] = together.recall()[..., 0]
    return numbers


def _blocks(num_rows: int, count: int, seed: int) -> Iterator[npt.NDArray[np.float32]]:
    """Resamples in blocks of at most 20 million numbers, one in memory at a time."""
    size = max(1, min(count, 20_000_000 // max(num_rows, 1)))
    for start in range(0, count, size):
        yield resamples(num_rows, min(size, count - start), seed + start)


def _explained(error: Array, spread: Array) -> Array:
    """1 - error / spread, and 0 where there is no spread."""
    return np.where(spread > 0, 1.0 - _ratio(error, spread), 0.0)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(
        numerator,
        denominator,
        out=np.zeros(np.broadcast_shapes(np.shape(numerator), np.shape(denominator))),
        where=np.asarray(denominator) != 0,
    )
