from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from lepton.training.confidence import calibration, coverage_curve, decisions, threshold_for
from lepton.training.metrics import (
    by_label,
    confusion_matrix,
    mcnemar,
    measures,
    r_squared,
    summary,
)
from lepton.training.probabilities import (
    fit_temperature,
    negative_log_likelihood,
    softmax,
)


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    targets = generator.integers(0, 4, 300)
    predicted = np.where(generator.random(300) < 0.7, targets, generator.integers(0, 4, 300))
    return predicted, targets


def test_numbers_are_those_of_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, targets = answers
    found = summary(predicted, targets, "single", 4)
    expected = {
        "accuracy": reference.accuracy_score(targets, predicted),
        "macro_f1": reference.f1_score(targets, predicted, average="macro"),
        "micro_f1": reference.f1_score(targets, predicted, average="micro"),
        "macro_precision": reference.precision_score(targets, predicted, average="macro"),
        "macro_recall": reference.recall_score(targets, predicted, average="macro"),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value)
        assert found[name].low < value < found[name].high
        assert found[name].high - found[name].low < 0.15
    matrix = confusion_matrix(predicted, targets, 4)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(targets, predicted))
    labels = by_label(predicted, targets, "single", ("a", "b", "c", "d"))
    f1 = reference.f1_score(targets, predicted, average=None)
    np.testing.assert_allclose([entry.f1.value for entry in labels.values()], f1)
    for entry in labels.values():
        assert entry.f1.low < entry.f1.value < entry.f1.high
        assert entry.f1.high - entry.f1.low < 0.3
    assert sum(entry.support for entry in labels.values()) == len(targets)
    assert set(measures("single")) == {*found, "calibration_error"}


def test_several_labels_and_numbers(answers: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, targets = answers
    many = (np.eye(4)[predicted], np.eye(4)[targets])
    found = summary(*many, "multi", 4)
    assert found["micro_f1"].value == pytest.approx(
        reference.f1_score(many[1], many[0], average="micro")
    )
    both = np.maximum(many[0], np.eye(4)[0])
    found = summary(both, many[1], "multi", 4)
    for name, score in (
        ("micro_precision", reference.precision_score),
        ("micro_recall", reference.recall_score),
    ):
        assert found[name].value == pytest.approx(score(many[1], both, average="micro"))
        assert found[name].low < found[name].value < found[name].high
    assert set(measures("multi")) == {*found, "calibration_error"}
    numbers = summary(predicted * 1.0, targets * 1.0, "regression", 1)
    assert numbers["mse"].value == pytest.approx(reference.mean_squared_error(targets, predicted))
    assert numbers["r2"].value == pytest.approx(reference.r2_score(targets, predicted))
    assert r_squared(targets * 1.0, targets * 1.0) == 1.0


def test_r2_far_from_0_and_without_spread() -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(size=200)
    predicted = targets + generator.normal(size=200) / 8
    near = summary(predicted, targets, "regression", 1)["r2"]
    far = summary(predicted + 1e9, targets + 1e9, "regression", 1)["r2"]
    assert far.value == pytest.approx(near.value, abs=1e-5)
    assert (far.low, far.high) == pytest.approx((near.low, near.high), abs=1e-5)
    assert near.low < near.value < near.high
    for number in (0.1, 0.0, 1e9):
        constant = np.full(7, number)
        found = summary(constant + 1, constant, "regression", 1)["r2"]
        assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_temperature_undoes_overconfidence() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(4000, 3))
    chances = softmax(scores)
    targets = np.asarray([generator.choice(3, p=row / row.sum()) for row in chances.astype(float)])
    temperature = fit_temperature(scores * 5, targets, "single")
    assert temperature == pytest.approx(5, rel=0.15)
    before = negative_log_likelihood(scores * 5, targets, "single", 1.0)
    assert negative_log_likelihood(scores * 5, targets, "single", temperature) < before


def test_calibration_and_thresholds() -> None:
    confidence = np.asarray([0.95, 0.9, 0.8, 0.6, 0.55])
    right = np.asarray([True, True, True, False, True])
    bins, error = calibration(confidence, right)
    assert sum(entry["count"] for entry in bins) == 5
    assert 0 < error < 1
    assert threshold_for(confidence, right, 0.99) == 0.8
    assert threshold_for(confidence, ~right, 0.99) is None
    curve = coverage_curve(confidence, right)
    assert curve[0] == {"threshold": 0.55, "coverage": 1.0, "accuracy": 0.8}
    assert curve[-1]["accuracy"] == 1.0


def test_several_labels_are_decisions_each() -> None:
    probabilities = np.asarray([[0.9, 0.2], [0.6, 0.7]])
    targets = np.asarray([[1.0, 0.0], [0.0, 1.0]])
    confidence, right = decisions(probabilities, targets, targets, "multi")
    assert confidence.tolist() == [0.9, 0.2, 0.6, 0.7]
    assert right.tolist() == [True, False, False, True]


def test_mcnemar_counts_what_only_one_has_right() -> None:
    first = np.asarray([True] * 10 + [False] * 10)
    second = np.asarray([True] * 9 + [False] * 11)
    found = mcnemar(first, second)
    assert (found["only_first"], found["only_second"]) == (1, 0)
    assert found["p_value"] == 1.0
    assert mcnemar(first, ~first)["p_value"] == 1.0
    assert mcnemar(np.ones(20, bool), np.zeros(20, bool))["p_value"] < 1e-5
