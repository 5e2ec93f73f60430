"""How good predictions are: numbers with what chance could make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.training.config import Objective

Array = npt.NDArray[Any]

_ROUNDING = 1e-12
"""A spread below this share of the sum of squares is an error of rounding."""


@dataclass(frozen=True)
class Interval:
    """A number and the interval that holds 95 % of its bootstrap resamples."""

    value: float
    low: float
    high: float


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

    def micro_f1(self) -> Array:
        """F1 of all decisions taken together: [...]."""
        return _ratio(2.0 * self.hits.sum(axis=-1), (self.predicted + self.actual).sum(axis=-1))


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

    Accuracy of `multi` asks for the exact set of labels.
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
        for name, value in _headline(counts, weights @ right / len(right)).items():
            samples.setdefault(name, []).append(value)
    counts = label_counts(predicted, targets, objective, outputs)
    values = _headline(counts, np.asarray(right.mean()))
    return {
        name: interval(float(value), np.concatenate(samples[name]))
        for name, value in values.items()
    }


def by_label(
    predicted: Array, targets: Array, objective: Objective, labels: tuple[str, ...]
) -> dict[str, Mapping[str, float]]:
    """Precision, recall, F1 and support of each label."""
    counts = label_counts(predicted, targets, objective, len(labels))
    columns = zip(
        labels, counts.precision(), counts.recall(), counts.f1(), counts.actual, strict=True
    )
    return {
        label: {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
        }
        for label, precision, recall, f1, support in columns
    }


def confusion_matrix(predicted: Array, targets: Array, outputs: int) -> npt.NDArray[np.int64]:
    """Rows are what was right, columns what was predicted: int64 [labels, labels]."""
    flat = np.bincount(targets * outputs + predicted, minlength=outputs * outputs)
    return flat.reshape(outputs, outputs).astype(np.int64)


def calibration(
    confidence: Array, right: Array, num_bins: int = 10
) -> tuple[list[dict[str, float]], float]:
    """Reliability by equal steps of confidence, and the expected calibration error.

    Returns:
        For each bin that is not empty its mean confidence, share of right answers and count; and
        the mean absolute difference of the first two, weighted by count.
    """
    index = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    bins = []
    error = 0.0
    for number in range(num_bins):
        inside = index == number
        if not inside.any():
            continue
        mean, share = float(confidence[inside].mean()), float(right[inside].mean())
        bins.append({"confidence": mean, "accuracy": share, "count": int(inside.sum())})
        error += abs(mean - share) * float(inside.mean())
    return bins, error


def coverage_curve(confidence: Array, right: Array, points: int = 101) -> list[dict[str, float]]:
    """Accuracy of the answers that are kept as the threshold on confidence rises.

    Returns:
        At most ``points`` entries of threshold, coverage (share of texts answered) and accuracy.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, hits = confidence[order], np.cumsum(right[order])
    kept = np.unique(np.linspace(1, len(ranked), min(points, len(ranked))).astype(int))
    return [
        {
            "threshold": float(ranked[count - 1]),
            "coverage": count / len(ranked),
            "accuracy": float(hits[count - 1] / count),
        }
        for count in kept[::-1]
    ]


def threshold_for(confidence: Array, right: Array, accuracy: float) -> float | None:
    """The lowest threshold whose kept answers reach ``accuracy``; None if none does."""
    order = np.argsort(-confidence, kind="stable")
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Equal confidences are kept or left together.
    last = np.append(np.diff(confidence[order]) != 0, True)
    good = np.flatnonzero((shares >= accuracy) & last)
    return float(confidence[order][good[-1]]) if len(good) else None


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


def _headline(counts: LabelCounts, accuracy: Array) -> dict[str, Array]:
    return {
        "accuracy": accuracy,
        "macro_f1": counts.macro(counts.f1()),
        "micro_f1": counts.micro_f1(),
        "macro_precision": counts.macro(counts.precision()),
        "macro_recall": counts.macro(counts.recall()),
    }


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
