from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from lepton.training import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.linear import fit_features, fit_weights, row_coordinates, sparse_matrix

CONFIG = TrainingConfig(method="linear")


def test_every_label_is_fitted_against_the_rest(shop: Dataset) -> None:
    matrix = sparse_matrix(fit_features(shop.texts).rows(shop.texts))
    weight, bias = fit_weights(matrix, shop, CONFIG, 1.0)
    for label in range(len(shop.labels)):
        alone = LinearSVC(C=1.0, random_state=0).fit(matrix, shop.targets == label)
        assert np.allclose(weight[:, label], alone.coef_[0], atol=1e-3)
        assert np.isclose(bias[label], alone.intercept_[0], atol=1e-3)


def test_weighted_labels_weigh_as_in_a_fit_of_one(shop: Dataset) -> None:
    matrix = sparse_matrix(fit_features(shop.texts).rows(shop.texts))
    weight, _ = fit_weights(matrix, shop, replace(CONFIG, class_weights=True), 1.0)
    for label in range(len(shop.labels)):
        alone = LinearSVC(C=1.0, class_weight="balanced", random_state=0)
        alone.fit(matrix, shop.targets == label)
        assert np.allclose(weight[:, label], alone.coef_[0], atol=1e-3)


@pytest.mark.parametrize("kept", [1, 2])
def test_a_label_without_rows_is_never_the_best(shop: Dataset, kept: int) -> None:
    rows = np.flatnonzero(shop.targets < kept)
    matrix = sparse_matrix(fit_features(shop.texts).rows(shop.texts))[rows]
    weight, bias = fit_weights(matrix, shop.take(rows), CONFIG, 1.0)
    scores = matrix @ weight + bias
    assert (scores.argmax(axis=1) == shop.targets[rows]).all()


def test_few_long_rows_are_told_in_fewer_columns(shop: Dataset) -> None:
    long = replace(shop, texts=tuple(" ".join([text, *shop.texts]) for text in shop.texts))
    matrix = sparse_matrix(fit_features(long.texts).rows(long.texts))
    fewer = row_coordinates(matrix)
    assert fewer.shape == (len(shop), len(shop))
    assert np.allclose(fewer @ fewer.T, (matrix @ matrix.T).toarray(), atol=1e-6)
    scores = []
    for features in (matrix, fewer):
        weight, bias = fit_weights(features, long, CONFIG, 1.0)
        scores.append(features @ weight + bias)
    assert np.allclose(*scores, atol=1e-2)
    short = sparse_matrix(fit_features(shop.texts).rows(shop.texts))
    assert row_coordinates(short) is short
