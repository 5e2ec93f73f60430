"""How far probabilities can be trusted, and what a threshold on them would do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.training.config import Objective

Array = npt.NDArray[Any]


def decisions(
    probabilities: Array, predicted: Array, targets: Array, objective: Objective
) -> tuple[Array, Array]:
    """What `calibration` compares, over probabilities [rows, labels].

    Returns:
        Of `single` the probability of each row's best label and whether that is right; of `multi`
        the probability of each label of each row and whether the row has it.
    """
    if objective == "multi":
        return probabilities.ravel(), targets.ravel() > 0.5
    return probabilities.max(axis=1), predicted == targets


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
