"""What is drawn of an evaluation, thinned out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.training.dataset import Dataset

_CURVE_POINTS = 200
_SCATTER_POINTS = 1000

Array = npt.NDArray[Any]


def ranking_curves(probabilities: Array, dataset: Dataset) -> dict[str, Any]:
    """Precision-recall and ROC of each label against the rest, from [rows, labels]."""
    from sklearn.metrics import auc as area
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

    curves = {}
    for index, (label, rows) in enumerate(zip(dataset.labels, dataset.by_label(), strict=True)):
        actual = np.zeros(len(dataset), np.bool_)
        actual[rows] = True
        if actual.all() or not actual.any():
            continue
        precision, recall, _ = precision_recall_curve(actual, probabilities[:, index])
        false, true, _ = roc_curve(actual, probabilities[:, index])
        curves[label] = {
            "average_precision": float(average_precision_score(actual, probabilities[:, index])),
            "roc_auc": float(area(false, true)),
            "precision_recall": _thinned(recall, precision),
            "roc": _thinned(false, true),
        }
    return curves


def scatter(predicted: Array, targets: Array) -> list[list[float]]:
    """Pairs of an actual number and the predicted one."""
    return [
        [float(targets[i]), float(predicted[i])] for i in _evenly(len(targets), _SCATTER_POINTS)
    ]


def _thinned(x: Array, y: Array) -> list[list[float]]:
    return [[round(float(x[i]), 5), round(float(y[i]), 5)] for i in _evenly(len(x), _CURVE_POINTS)]


def _evenly(count: int, points: int) -> Array:
    """Indices of at most ``points`` of ``count``, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, points)).astype(int))
