from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.training.analyzer import Analyzer, han_share, words
from lepton.training.features import TfIdf


def test_words_are_found_in_both_scripts() -> None:
    assert words("Ｒefund 我要退款 NOW") == ["refund", "我要", "退款", "now"]
    assert han_share("退款abcd") == 2 / 6


def test_terms_are_words_pairs_and_characters() -> None:
    terms = Analyzer().terms("red red fox")
    assert terms.words == {"red": 2, "fox": 1, "red red": 1, "red fox": 1}
    assert terms.characters["# re"] == 2
    assert terms.characters["#fox "] == 1


def test_values_are_those_of_the_formula() -> None:
    features = TfIdf.fit(["a b", "a a", "c"], Analyzer(word_ngrams=1, character_ngrams=(0, 0)))
    row = features.rows(["a a b"])
    idf = {"a": 1 + np.log(4 / 3), "b": 1 + np.log(4 / 2)}
    expected = {"a": (1 + np.log(2)) * idf["a"], "b": idf["b"]}
    length = np.hypot(*expected.values())
    found = {features.vocabulary[i]: v for i, v in zip(row.indices, row.values, strict=True)}
    assert set(found) == {"a", "b"}
    for term, value in expected.items():
        np.testing.assert_allclose(found[term], value / length, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_a_row_does_not_depend_on_its_neighbours(texts: list[str]) -> None:
    features = TfIdf.fit(["a 退款 b", "ab 快递", *texts], Analyzer())
    weight = np.random.default_rng(0).normal(size=(len(features.vocabulary), 3))
    weight = weight.astype(np.float32)
    together = features.rows(texts).times(weight)
    alone = np.concatenate([features.rows([text]).times(weight) for text in texts])
    np.testing.assert_array_equal(together, alone)
