from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.data import folds, split
from lepton.errors import DataError


def test_labels_keep_their_shares() -> None:
    labels = ["a"] * 700 + ["b"] * 200 + ["c"] * 100
    parts = split(labels, fractions=(0.8, 0.1, 0.1), seed=3)
    for part, share in ((parts.train, 0.8), (parts.dev, 0.1), (parts.test, 0.1)):
        counts = Counter(labels[index] for index in part)
        assert counts == {"a": 700 * share, "b": 200 * share, "c": 100 * share}
    assert parts.warnings == ()


def test_the_seed_decides() -> None:
    labels = ["a", "b"] * 50
    first, again, other = (split(labels, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_a_label_with_one_row_stays_in_train() -> None:
    labels = ["a"] * 20 + ["rare"]
    parts = split(labels)
    assert 20 in parts.train
    assert parts.warnings == ("label 'rare' has 1 row: none went to dev and test",)


def test_one_label_is_noticed() -> None:
    assert "nothing to classify" in split(["a"] * 10).warnings[0]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=120),
    st.integers(0, 5),
)
def test_groups_never_straddle_and_no_row_is_lost(rows: list[tuple[int, int]], seed: int) -> None:
    labels = [label for label, _ in rows]
    groups = [group for _, group in rows]
    parts = split(labels, groups=groups, fractions=(0.6, 0.2, 0.2), seed=seed)
    together = np.concatenate([parts.train, parts.dev, parts.test])
    assert sorted(together) == list(range(len(rows)))
    sides = [{groups[index] for index in part} for part in (parts.train, parts.dev, parts.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


def test_grouped_rows_keep_their_shares_nearly() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 2000)
    labels = rng.integers(0, 5, 400)[groups]
    parts = split(list(labels), groups=list(groups), fractions=(0.7, 0.15, 0.15))
    totals = Counter(labels)
    for part, share in ((parts.train, 0.7), (parts.test, 0.15)):
        counts = Counter(labels[part])
        assert all(abs(counts[label] / totals[label] - share) < 0.02 for label in totals)


def test_folds_cover_every_row_once() -> None:
    labels = ["a"] * 30 + ["b"] * 15
    pairs = folds(labels, 5)
    assert sorted(np.concatenate([test for _, test in pairs])) == list(range(45))
    for train, test in pairs:
        assert not set(train) & set(test)
        assert Counter(labels[index] for index in test) == {"a": 6, "b": 3}


@pytest.mark.parametrize("fractions", [(0.5, 0.1, 0.1), (1.2, -0.1, -0.1), (0.0, 0.5, 0.5)])
def test_fractions_must_be_ones(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(DataError, match="fractions"):
        split(["a", "b"], fractions=fractions)


def test_too_few_groups_for_the_folds() -> None:
    with pytest.raises(DataError, match="need between 2 and 3"):
        folds(["a"] * 6, 5, groups=[0, 0, 1, 1, 2, 2])
    with pytest.raises(DataError, match="none can be held out"):
        folds(["a"] * 6, 1, groups=[0] * 6)
