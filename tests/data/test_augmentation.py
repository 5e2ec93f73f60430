from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from lepton.data import (
    EmbeddingGan,
    Score,
    augment,
    measure_gain,
    paraphrase,
    score_embeddings,
    score_texts,
    wanted_rows,
)
from lepton.data.normalization import comparison_key
from lepton.errors import DataError

TEXTS = [
    "How do I send my parcel back to the shop?",
    "我的快递怎么还没有发货，什么时候到",
    "Please refund the money for my order",
    "退款什么时候到账，已经一周了",
]
LABELS = ["return", "track", "refund", "refund"]


def test_how_many_rows_are_wanted() -> None:
    labels = ["a"] * 10 + ["b"] * 2
    assert wanted_rows(labels, factor=0.5) == {"a": 5, "b": 1}
    assert wanted_rows(labels, balance=1.0) == {"a": 0, "b": 8}
    with pytest.raises(DataError):
        wanted_rows(labels, factor=-1)


def test_new_rows_are_new_and_none_is_held_out() -> None:
    wanted = {"return": 6, "track": 6, "refund": 6, "unknown": 3}
    first = augment(TEXTS, LABELS, wanted, seed=1)
    assert first == augment(TEXTS, LABELS, wanted, seed=1)
    assert {new.label for new in first} == set(LABELS)
    assert max(Counter(new.label for new in first).values()) <= 6
    assert all(LABELS[new.source] == new.label for new in first)
    keys = [comparison_key(new.text) for new in first]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & {comparison_key(text) for text in TEXTS}
    held_out = [first[0].text]
    again = augment(TEXTS, LABELS, wanted, held_out=held_out, seed=1)
    assert first[0].text not in {new.text for new in again}


def test_paraphrases_come_from_the_model() -> None:
    seen: list[list[str]] = []

    def model(texts: list[str]) -> list[str]:
        seen.append(texts)
        return [f"{text} (said otherwise)" for text in texts]

    new = paraphrase(TEXTS, LABELS, {"return": 1, "refund": 3}, model, batch_size=2)
    assert [len(batch) for batch in seen] == [2, 2]
    assert {row.method for row in new} == {"paraphrase"}
    assert all(row.text == f"{TEXTS[row.source]} (said otherwise)" for row in new)
    with pytest.raises(DataError, match="0 answers to 1"):
        paraphrase(TEXTS, LABELS, {"return": 1}, lambda texts: texts[:0])


def test_the_gain_is_that_of_training_with_the_new_rows() -> None:
    sizes = []

    def scorer(texts: object, labels: object, dev: object, dev_labels: object) -> Score:
        sizes.append((len(texts), len(labels)))  # type: ignore[arg-type]
        return Score(0.5, 0.1 * len(sizes))

    added = augment(TEXTS, LABELS, {"refund": 2})
    gain = measure_gain((TEXTS, LABELS), (["x"], ["refund"]), added, scorer)
    assert sizes == [(4, 4), (6, 6)]
    assert gain.helps
    assert gain.added == 2


def test_scores_of_texts() -> None:
    dev = ["refund my order please", "send my parcel back"]
    score = score_texts(TEXTS, LABELS, dev, ["refund", "return"])
    assert score == Score(1.0, 1.0)
    with pytest.raises(DataError, match="two labels"):
        score_texts(["a"], ["x"], ["a"], ["x"])


def test_the_generator_learns_where_each_label_lies() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 24)).astype(np.float32)
    ids = np.repeat([0, 1, 2], [60, 60, 6])
    labels = ["abc"[index] for index in ids]
    spread = 0.3
    rows = (centres[ids] + spread * rng.normal(size=(126, 24))).astype(np.float32)
    gan = EmbeddingGan(steps=60, seed=3).fit(rows, labels)
    for index, label in enumerate("abc"):
        made = gan.sample(label, 40)
        assert made.shape == (40, 24)
        nearest = np.linalg.norm(made[:, None] - centres, axis=2).argmin(1)
        assert np.mean(nearest == index) > 0.9
        assert 0.3 * spread < made.std(0).mean() < 3 * spread
    assert np.array_equal(gan.sample("c", 5, seed=1), gan.sample("c", 5, seed=1))
    extra = gan.sample("c", 54)
    test = (centres[ids] + spread * rng.normal(size=(126, 24))).astype(np.float32)
    score = score_embeddings(np.concatenate([rows, extra]), [*labels, *["c"] * 54], test, labels)
    assert score.macro_f1 > 0.9
    with pytest.raises(DataError, match="was not in"):
        gan.sample("d", 1)


def test_the_gain_of_drawn_embeddings_is_measured_in_one_call() -> None:
    rng = np.random.default_rng(1)
    labels = ["a"] * 40 + ["b"] * 4
    centres = np.where(np.array(labels) == "a", -0.5, 0.5)[:, None]

    def rows() -> NDArray[np.float32]:
        return (centres + rng.normal(size=(44, 8))).astype(np.float32)

    train, dev = (rows(), labels), (rows(), labels)
    gan = EmbeddingGan(steps=5)
    (drawn, drawn_labels), gain = gan.measure_gain(train, dev, {"b": 36, "a": 0})
    assert drawn.shape == (36, 8)
    assert drawn_labels == ["b"] * 36
    assert gain.added == 36
    assert gain.before == score_embeddings(*train, *dev)
    joined = np.concatenate([train[0], drawn])
    assert gain.after == score_embeddings(joined, [*labels, *drawn_labels], *dev)
