"""Scores to probabilities, and the temperature that makes them honest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.training.config import Objective

Floats = npt.NDArray[np.float32]


def softmax(scores: npt.NDArray[Any]) -> Floats:
    """Rows that add up to 1."""
    shifted = scores.astype(np.float64) - scores.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    result: Floats = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result


def sigmoid(scores: npt.NDArray[Any]) -> Floats:
    """1 / (1 + e⁻ˢ) without overflow."""
    result: Floats = (0.5 * (1.0 + np.tanh(0.5 * scores.astype(np.float64)))).astype(np.float32)
    return result


def to_probabilities(scores: npt.NDArray[Any], objective: Objective, temperature: float) -> Floats:
    """Probabilities [rows, labels]: exclusive for `single`, independent for `multi`."""
    scaled = scores / temperature
    return softmax(scaled) if objective == "single" else sigmoid(scaled)


def negative_log_likelihood(
    scores: npt.NDArray[Any], targets: npt.NDArray[Any], objective: Objective, temperature: float
) -> float:
    """Mean over rows (single) or over rows and labels (multi), in nats."""
    probabilities = to_probabilities(scores, objective, temperature).astype(np.float64)
    if objective == "single":
        chosen = probabilities[np.arange(len(targets)), targets]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())
    chosen = np.where(targets > 0.5, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def fit_temperature(
    scores: npt.NDArray[Any], targets: npt.NDArray[Any], objective: Objective
) -> float:
    """The temperature with the least negative log-likelihood, from 1/1000 to 100.

    Temperature scaling (arXiv:1706.04599): one number, which changes no decision of `single`.
    """
    if objective == "regression" or not len(scores):
        return 1.0
    low, high = np.log(1e-3), np.log(100.0)
    ratio = (np.sqrt(5.0) - 1) / 2

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(scores, targets, objective, float(np.exp(log_temperature)))

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    for _ in range(40):
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return float(np.exp((low + high) / 2))
