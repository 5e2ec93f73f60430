"""Labels' names beside a linear model, and what counts as clearly better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lepton.training import TrainedModel, TrainingConfig, make_dataset, train
from lepton.training.dataset import Dataset
from lepton.training.encoder_scorer import Encoder
from lepton.training.label_names import choose_share, name_vectors
from lepton.training.selection import clearly_better


def _rows(count: int) -> Dataset:
    return make_dataset([f"text {row}" for row in range(count)], ["no", "yes"] * (count // 2))


def _scores(dataset: Dataset, wrong: int) -> np.ndarray:
    """Scores that are right but for the first rows."""
    scores = np.eye(2, dtype=np.float32)[dataset.targets]
    scores[:wrong] = scores[:wrong, ::-1]
    return scores


def test_one_row_is_not_clearly_better_and_nine_are() -> None:
    rows = _rows(40)
    usual = _scores(rows, 10)
    assert not clearly_better(usual, usual, rows)
    assert not clearly_better(_scores(rows, 9), usual, rows)
    assert clearly_better(_scores(rows, 1), usual, rows)
    assert not clearly_better(usual, _scores(rows, 1), rows)


def test_of_many_rows_one_is_enough() -> None:
    rows = _rows(200)
    assert clearly_better(_scores(rows, 9), _scores(rows, 10), rows)
    assert not clearly_better(_scores(rows, 10), _scores(rows, 10), rows)


def test_names_count_as_usual_unless_they_clearly_mislead() -> None:
    rows = _rows(40)
    scores = _scores(rows, 4)
    assert choose_share(scores, np.zeros_like(scores), rows) == 1.0
    assert choose_share(scores, -3 * scores, rows) == 0.0


@pytest.mark.parametrize("fields", [1, 2])
def test_directions_of_names_have_mean_length_one(encoder: str, fields: int) -> None:
    rows = make_dataset(["a"] * 3, ["refund", "parcel_late", "尺码"])
    directions = name_vectors(Encoder(encoder, fields=fields), rows)
    assert directions is not None
    assert directions.shape == (64 * fields, 3)
    assert np.linalg.norm(directions, axis=0).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(directions.sum(axis=1), 0, atol=1e-5)


def test_numbers_and_several_labels_name_nothing(encoder: str) -> None:
    frozen = Encoder(encoder)
    assert name_vectors(frozen, make_dataset(["a", "b"], ["0", "1"])) is None
    assert name_vectors(frozen, make_dataset(["a", "b"], [["x"], ["y"]])) is None
    assert name_vectors(frozen, make_dataset(["a", "b"], [0.5, 1.5])) is None


def test_each_field_has_a_vector(encoder: str, shop: Dataset, tmp_path: Path) -> None:
    texts = [f"{text}\nand more\nof it" for text in shop.texts]
    rows = make_dataset(texts, [shop.labels[target] for target in shop.targets])
    config = TrainingConfig(method="head", encoder=encoder, fields=2)
    model = TrainedModel.load(train(rows, config, out=tmp_path / "run"))
    assert (model.scores(rows.texts).argmax(axis=1) == rows.targets).mean() > 0.9

    found = Encoder(encoder, fields=2).embed(["parcel late\nshoes\nexchange", "parcel late"])
    single = Encoder(encoder).embed(["parcel late", "shoes\nexchange", ""])
    expected = [np.hstack([single[0], single[1]]), np.hstack([single[0], single[2]])]
    np.testing.assert_allclose(found, expected, atol=1e-3)
