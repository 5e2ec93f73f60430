from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.errors import DataError
from lepton.training.dataset import find_objective, make_dataset


def test_labels_become_indices_in_sorted_order() -> None:
    dataset = make_dataset(["a", "b", "c"], ["y", "x", "y"])
    assert dataset.labels == ("x", "y")
    assert dataset.targets.tolist() == [1, 0, 1]
    assert dataset.counts() == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("targets", "objective"),
    [
        (["a", "b"], "single"),
        ([1, 2, 3], "single"),
        ([0.5, 1], "regression"),
        ([["a"], ["a", "b"]], "multi"),
    ],
)
def test_the_objective_follows_from_the_targets(targets: list[object], objective: str) -> None:
    assert find_objective(targets) == objective  # type: ignore[arg-type]


def test_several_labels_stand_between_bars() -> None:
    dataset = make_dataset(["a", "b", "c"], ["x|y", "y", "x"], objective="multi")
    assert dataset.targets.tolist() == [[1, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("texts", "targets", "message"),
    [
        ([], [], "no rows"),
        (["a"], ["x", "y"], "1 texts but 2 labels"),
        (["a", "b"], ["x", "x"], "two labels"),
        (["a", "b"], ["x", math.nan], "1 rows have no label (rows 2"),
        (["a", "b"], ["x", None], "no label"),
        (["a", "b", "c"], ["x", "y", "N/A"], "1 rows have no label (rows 3"),
        (["a", 3], ["x", "y"], "text 2 is a int"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    texts: list[str], targets: list[object], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        make_dataset(texts, targets)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_labels_that_a_model_does_not_know_are_named() -> None:
    with pytest.raises(DataError, match="'z'"):
        make_dataset(["a", "b"], ["x", "z"], labels=("x", "y"), objective="single")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(), min_size=2, max_size=6, unique=True))
def test_the_fingerprint_tells_texts_apart(texts: list[str]) -> None:
    targets = ["x", "y"] * 3
    dataset = make_dataset(texts, targets[: len(texts)])
    again = make_dataset(list(texts), targets[: len(texts)])
    assert dataset.fingerprint() == again.fingerprint()
    swapped = make_dataset(texts[::-1], targets[: len(texts)])
    assert dataset.fingerprint() != swapped.fingerprint()
    assert dataset.take(np.arange(len(texts))).fingerprint() == dataset.fingerprint()
