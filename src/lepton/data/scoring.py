"""Quick scores that tell whether a change of the training rows helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton.errors import DataError
from lepton.extras import import_extra


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy and macro-averaged F1, from 0 to 1."""

    accuracy: float
    macro_f1: float


def score_texts(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    dev_texts: Sequence[str],
    dev_labels: Sequence[str],
) -> Score:
    """TF-IDF of 1 to 4 letters with a linear support vector machine: seconds, any language.

    Raises:
        DataError: fewer than two labels, or no dev rows.
        ConfigurationError: the extra ``data`` is not installed.
    """
    _check(train_labels, dev_labels)
    features = import_extra("sklearn.feature_extraction.text").TfidfVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True
    )
    model = import_extra("sklearn.svm").LinearSVC(random_state=0)
    model.fit(features.fit_transform(train_texts), list(train_labels))
    return _score(model.predict(features.transform(dev_texts)), dev_labels)


def score_embeddings(
    train: NDArray[np.float32],
    train_labels: Sequence[str],
    dev: NDArray[np.float32],
    dev_labels: Sequence[str],
) -> Score:
    """Logistic regression on embeddings [rows, width].

    Raises:
        DataError: as for ``score_texts``.
    """
    _check(train_labels, dev_labels)
    model = import_extra("sklearn.linear_model").LogisticRegression(max_iter=1000, C=10.0)
    model.fit(train, list(train_labels))
    return _score(model.predict(dev), dev_labels)


def _check(train_labels: Sequence[str], dev_labels: Sequence[str]) -> None:
    if len(set(train_labels)) < 2:
        raise DataError("a score needs two labels at least in the training part")
    if not dev_labels:
        raise DataError("a score needs rows in the dev part")


def _score(predicted: Any, labels: Sequence[str]) -> Score:
    metrics = import_extra("sklearn.metrics")
    return Score(
        float(metrics.accuracy_score(list(labels), predicted)),
        float(metrics.f1_score(list(labels), predicted, average="macro", zero_division=0)),
    )
