from __future__ import annotations

from dataclasses import replace

import pytest

from lepton.errors import DataError
from lepton.training import grouping, make_dataset
from lepton.training.dataset import Dataset
from lepton.training.selection import cross_parts, hold_out

LONG = "the parcel that I ordered last week has not moved for three days number"


def apart(dataset: Dataset) -> bool:
    """Whether no group stands on both sides of the hold-out or of a fold."""
    group_of = dict(zip(dataset.texts, dataset.groups.tolist(), strict=True))
    parts = [tuple(side.texts for side in hold_out(dataset, 0.3, 0))]
    for train, test in cross_parts(dataset, 0, 5):
        parts.append((dataset.take(train).texts, dataset.take(test).texts))
    return all(
        {group_of[text] for text in train}.isdisjoint(group_of[text] for text in test)
        for train, test in parts
    )


def test_near_duplicates_stay_together(shop: Dataset) -> None:
    dataset = make_dataset(
        [*shop.texts, f"{LONG} 1", f"{LONG} 2", "再来一次"],
        [*map(str, shop.targets), "0", "1", "0"],
    )
    groups = dataset.groups
    assert groups[-3] == groups[-2] != groups[-1]
    assert apart(dataset)


def test_of_very_many_rows_equal_texts_stay_together(
    shop: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "MOST_ROWS", 100)
    dataset = make_dataset([*shop.texts, *[f"{LONG} 1", f"{LONG} 2"] * 6], ["a", "b"] * 51)
    assert len(set(dataset.groups[-12:])) == 2


def test_rewrites_stay_with_their_row(shop: Dataset) -> None:
    labels = [shop.labels[target] for target in shop.targets]
    rewrites = [f"{index} entirely other words {index * 7}" for index in range(len(shop))]
    dataset = make_dataset([*shop.texts, *rewrites], labels * 2)
    origins = tuple(map(str, range(len(shop)))) * 2
    grouped = replace(dataset, origins=origins)
    assert (grouped.groups[: len(shop)] == grouped.groups[len(shop) :]).all()
    assert apart(grouped)
    assert grouped.take(range(5)).origins == origins[:5]
    assert grouped.joined(dataset).origins == origins + (None,) * len(dataset)
    assert grouped.fingerprint() != dataset.fingerprint()


def test_a_label_of_one_pattern_is_judged_all_the_same() -> None:
    texts = [f"{LONG} {row}" for row in range(20)] + [f"refund {row * 37}" for row in range(20)]
    dataset = make_dataset(texts, ["parcel"] * 20 + ["refund"] * 20)
    assert len(set(dataset.groups[:20])) == 20
    train, held_out = hold_out(dataset, 0.2, 0)
    assert set(train.targets) == set(held_out.targets) == {0, 1}


@pytest.mark.parametrize("rows", [2, 3])
def test_few_rows_are_held_out_of_every_label(rows: int) -> None:
    texts = ["one", "two", "three", "red", "green", "blue"]
    dataset = make_dataset(texts, ["number"] * 3 + ["colour"] * 3)
    dataset = dataset.take([*range(rows), *range(3, 3 + rows)])
    train, held_out = hold_out(dataset, 0.15, 0)
    assert set(train.targets) == set(held_out.targets) == {0, 1}
    assert len(held_out) == 2


def test_numbers_of_few_texts_are_held_out_too() -> None:
    dataset = make_dataset(["one", "two", "two"], [1.5, 2.5, 2.5])
    train, held_out = hold_out(dataset, 0.15, 0)
    assert (len(train), len(held_out)) == (2, 1)


def test_texts_that_are_all_alike_are_refused() -> None:
    labels = ["a", "b"] * 3
    with pytest.raises(DataError, match="validation data"):
        cross_parts(make_dataset(["same"] * 6, labels), 0, 5)
    with pytest.raises(DataError, match="validation data"):
        hold_out(make_dataset(["same", "other"] * 3, labels), 0.15, 0)
