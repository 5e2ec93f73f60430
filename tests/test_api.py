from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from lepton import LargeLanguageModel
from lepton.errors import DataError, RequestError, UnavailableError
from lepton.training.trained_model import TrainedModel

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


def test_labels_come_back_as_they_were_given(tmp_path: Path) -> None:
    numbers = np.asarray([10, 10, 9, 9] * 6)
    model = LargeLanguageModel(method="linear").fit(TEXTS, numbers)
    assert model.classes_.tolist() == [9, 10]
    assert accuracy_score(numbers, model.predict(TEXTS)) == 1.0
    chances = model.predict_proba(["refund"])[0]
    assert model.classes_[chances.argmax()] == model.classify("refund") == 10
    scores = cross_val_score(clone(model), np.asarray(TEXTS), numbers, cv=3, scoring="accuracy")
    assert scores.min() > 0.9
    truths = LargeLanguageModel(method="linear").fit(TEXTS, [True, True, False, False] * 6)
    assert truths.predict(["refund", "parcel"]).tolist() == [True, False]
    several = LargeLanguageModel(method="linear").fit(TEXTS, [[1, 2], [1], [2], [2]] * 6)
    assert several.predict(["money back"])[0] == (1,)
    assert several.score(TEXTS, [[1, 2], [1], [2], [2]] * 6) == 1.0
    mixed = LargeLanguageModel(method="linear").fit(TEXTS, [0, 0, "post", "post"] * 6)
    assert mixed.predict(["refund", "parcel"]).tolist() == [0, "post"]
    model.save(tmp_path / "shop@1")
    assert LargeLanguageModel.load(tmp_path / "shop@1").predict(["refund"]).tolist() == ["10"]


def test_rows_of_zeros_and_ones_are_refused() -> None:
    with pytest.raises(DataError, match="label 1 is an array"):
        LargeLanguageModel(method="linear").fit(TEXTS, np.eye(2)[[0, 0, 1, 1] * 6])


def test_unsure_texts_get_no_label(model: LargeLanguageModel, tmp_path: Path) -> None:
    unsure = float(model.predict_proba(["xyz"]).max())
    assert model.classify("xyz", threshold=unsure) is not None
    assert model.classify("xyz", threshold=1.0) is None
    careful = LargeLanguageModel(method="linear", threshold=1.0).fit(TEXTS, LABELS)
    assert careful.predict(["xyz"]).tolist() == [None]
    assert careful.predict(["xyz"], threshold=0.0)[0] is not None
    careful.save(tmp_path / "careful@1")
    assert TrainedModel.load(tmp_path / "careful").predict(["xyz"])[0].label is None
    assert LargeLanguageModel.load(tmp_path / "careful").classify("xyz") is None
    with pytest.raises(RequestError, match="between 0 and 1"):
        LargeLanguageModel(threshold=2.0).fit(TEXTS, LABELS)


def test_encode_needs_no_fit_and_has_one_space_for_all_languages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = []

    class Engine:
        encoder = SimpleNamespace(dimensions=2)

        def embed(self, texts: list[str], **_: object) -> np.ndarray:
            return np.ones((len(texts), 2), np.float32)

    def load(name: str, _: int | None) -> Engine:
        loaded.append(name)
        return Engine()

    monkeypatch.setattr("lepton.training.encoder_scorer._load", load)
    fresh = LargeLanguageModel()
    assert fresh.encode("hello").shape == fresh.encode("你好").shape == (2,)
    assert fresh.encode([]).shape == (0, 2)
    assert loaded == ["multilingual-e5-small"]
    fresh.set_params(encoder="all-minilm-l6-v2").encode("hello")
    assert loaded[1:] == ["all-minilm-l6-v2"]


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
    with pytest.raises(RequestError, match="for several texts call predict"):
        model.classify(["one", "two"])
    with pytest.raises(DataError, match="two labels"):
        fresh.fit(["a", "b"], ["x", "x"])
