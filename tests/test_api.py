from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from lepton import LargeLanguageModel
from lepton.errors import DataError, RequestError, UnavailableError

TEXTS = ["refund please", "money back", "where is my parcel", "the parcel is late"] * 6
LABELS = ["refund", "refund", "delivery", "delivery"] * 6


@pytest.fixture(scope="module")
def model() -> LargeLanguageModel:
    return LargeLanguageModel(method="linear").fit(TEXTS, LABELS)


def test_fit_classify_score_save_load(model: LargeLanguageModel, tmp_path: Path) -> None:
    assert model.classify("my money back") == "refund"
    assert model.score(TEXTS, LABELS) == 1.0
    chances = model.predict_proba(["late parcel", "refund"])
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-6)
    assert model.classes_[chances[0].argmax()] == "delivery"
    model.save(tmp_path / "shop@2")
    loaded = LargeLanguageModel.load(tmp_path / "shop@2")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert loaded.get_params() == model.get_params() | {"objective": "single"}


def test_scikit_learn_takes_it(model: LargeLanguageModel) -> None:
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "model_")
    scores = cross_val_score(copy, np.asarray(TEXTS, object), np.asarray(LABELS), cv=3)
    assert scores.min() > 0.9
    upper = FunctionTransformer(lambda texts: [text.upper() for text in texts])
    pipeline = make_pipeline(upper, clone(model)).fit(TEXTS, LABELS)
    assert pipeline.predict(["REFUND"])[0] == "refund"
    with pytest.raises(ValueError, match="colour"):
        copy.set_params(colour=1)


def test_numbers_and_whole_number_labels() -> None:
    lengths = [len(text) + 0.5 for text in TEXTS]
    numbers = LargeLanguageModel(method="linear").fit(TEXTS, lengths)
    assert numbers.score(TEXTS, lengths) > 0.95
    digits = LargeLanguageModel(method="linear").fit(TEXTS, [0, 0, 1, 1] * 6)
    assert digits.score(TEXTS, [0, 0, 1, 1] * 6) == 1.0


def test_mistakes_are_named(model: LargeLanguageModel) -> None:
    fresh = LargeLanguageModel()
    calls: list[Callable[[], object]] = [lambda: fresh.classify("x"), lambda: fresh.predict(["x"])]
    for call in calls:
        with pytest.raises(UnavailableError, match="fit or load"):
            call()
    with pytest.raises(RequestError, match="list of texts"):
        fresh.fit("one text", ["a"])
    with pytest.raises(RequestError, match="give classify the text"):
        model.classify(np.zeros(384, np.float32))
    with pytest.raises(DataError, match="two labels"):
        fresh.fit(["a", "b"], ["x", "x"])
