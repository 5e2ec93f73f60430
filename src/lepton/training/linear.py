"""Method `linear`: TF-IDF of words and characters with a linear model.

scikit-learn finds the weights (liblinear: support vectors with squared hinge loss, one label
against the rest; ridge regression for numbers). What is saved is a vocabulary and two matrices, and
`LinearScorer` needs numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lepton.errors import ModelFormatError
from lepton.training.analyzer import Analyzer
from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.features import Floats, SparseRows, TfIdf
from lepton.training.run import (
    MAX_VOCABULARY_BYTES,
    VOCABULARY,
    WEIGHTS,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)

COSTS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Costs of an error (1 / regularisation) that `fit_linear` is tried with."""
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class LinearScorer:
    """Scores = features · weight + bias; weight [terms, outputs], bias [outputs]."""

    features: TfIdf
    weight: Floats
    bias: Floats

    def scores(self, texts: Sequence[str]) -> Floats:
        """Float32 [texts, outputs], higher for likelier labels."""
        parts = [
            self.features.rows(texts[start : start + _ROWS_AT_ONCE]).times(self.weight)
            for start in range(0, len(texts), _ROWS_AT_ONCE)
        ]
        return np.concatenate(parts or [np.zeros((0, len(self.bias)), np.float32)]) + self.bias

    def save(self, folder: Path) -> dict[str, Any]:
        """Write vocabulary and weights; the result is the manifest's ``model``."""
        vocabulary = {
            "num_words": self.features.num_words,
            "terms": list(self.features.vocabulary),
        }
        write_json(folder / VOCABULARY, vocabulary, indent=None)
        tensors = {"idf": self.features.idf, "weight": self.weight, "bias": self.bias}
        write_tensors(folder / WEIGHTS, tensors)
        return {"analyzer": asdict(self.features.analyzer)}

    @classmethod
    def load(cls, folder: Path, model: dict[str, Any], num_outputs: int) -> LinearScorer:
        """Read what `save` wrote; raises ModelFormatError where it does not fit together."""
        file = folder / VOCABULARY
        vocabulary = read_json(file, MAX_VOCABULARY_BYTES)
        terms, num_words = vocabulary.get("terms"), vocabulary.get("num_words")
        if (
            not isinstance(terms, list)
            or not all(isinstance(term, str) for term in terms)
            or not isinstance(num_words, int)
            or not 0 <= num_words <= len(terms)
        ):
            raise ModelFormatError("not a list of terms", file=file)
        shapes = {
            "idf": (len(terms),),
            "weight": (len(terms), num_outputs),
            "bias": (num_outputs,),
        }
        tensors = read_tensors(folder / WEIGHTS, shapes)
        try:
            fields: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in model["analyzer"].items()
            }
            analyzer = Analyzer(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelFormatError(f"the analyzer is not described: {error}", file=folder) from None
        features = TfIdf(analyzer, terms, num_words, tensors["idf"])
        return cls(features, tensors["weight"], tensors["bias"])


def fit_features(texts: Sequence[str]) -> TfIdf:
    """A vocabulary for ``texts``; terms of a single text count only while there are few texts."""
    return TfIdf.fit(texts, Analyzer(), min_rows=2 if len(texts) >= 500 else 1)


def fit_weights(
    matrix: Any, dataset: Dataset, config: TrainingConfig, cost: float
) -> tuple[Floats, Floats]:
    """A linear model on any feature matrix, dense or sparse: weight [features, outputs], bias.

    Labels are told one against the rest. With ``class_weights`` the rows of a label weigh as much
    as all others together.
    """
    from sklearn.linear_model import Ridge

    if dataset.objective == "regression":
        ridge = Ridge(alpha=1.0 / cost, random_state=config.seed).fit(matrix, dataset.targets)
        return (
            np.asarray(ridge.coef_, np.float32).reshape(-1, 1),
            np.asarray([ridge.intercept_], np.float32),
        )
    count = len(dataset.labels)
    weight = np.zeros((matrix.shape[1], count), np.float32)
    # A label that no row has keeps this: nothing to learn but that.
    bias = np.full(count, -1.0, np.float32)
    if dataset.objective == "single" and len(present := np.unique(dataset.targets)) > 2:
        model = _fit_all_labels(matrix, dataset.targets, config, cost)
        weight[:, present], bias[present] = model.coef_.T, model.intercept_
        return weight, bias
    for label in range(count):
        positive = (
            dataset.targets == label
            if dataset.objective == "single"
            else dataset.targets[:, label] > 0.5
        )
        if positive.all():
            bias[label] = 1.0
        elif positive.any():
            balance = "balanced" if config.class_weights else None
            model = _support_vectors(cost, balance, config).fit(matrix, positive)
            weight[:, label], bias[label] = model.coef_[0], model.intercept_[0]
    return weight, bias


def _fit_all_labels(matrix: Any, targets: Any, config: TrainingConfig, cost: float) -> Any:
    """All labels in one call, which reads the matrix once.

    liblinear weighs a label's rows against an unweighted rest; the cost is scaled so that labels of
    equal frequency weigh as in a fit of one label with "balanced" weights.
    """
    if not config.class_weights:
        return _support_vectors(cost, None, config).fit(matrix, targets)
    labels, counts = np.unique(targets, return_counts=True)
    rest = (counts.sum() - counts) / counts
    balance = dict(zip(labels.tolist(), rest.tolist(), strict=True))
    scaled = cost * len(labels) / (2 * (len(labels) - 1))
    return _support_vectors(scaled, balance, config).fit(matrix, targets)


def _support_vectors(cost: float, class_weight: Any, config: TrainingConfig) -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC(C=cost, class_weight=class_weight, random_state=config.seed, max_iter=5000)


def row_coordinates(matrix: Any) -> Any:
    """Rows with the same products among each other in as many columns as there are rows.

    A linear model scores these rows as it would those of the sparse ``matrix``, and is found
    several times faster where they are few long texts: liblinear's time goes with the entries that
    are not zero. Other matrices are returned as they are.
    """
    rows = matrix.shape[0]
    if 2 * rows * rows > matrix.nnz:
        return matrix
    products = (matrix @ matrix.T).toarray()
    # Equal rows make this singular but for rounding.
    products[np.diag_indices(rows)] += 1e-8 * products.diagonal().max()
    return np.linalg.cholesky(products)


def sparse_matrix(rows: SparseRows) -> Any:
    """The rows as a scipy matrix, which scikit-learn takes."""
    from scipy.sparse import csr_matrix

    shape = (len(rows), rows.num_columns)
    return csr_matrix((rows.values.astype(np.float64), rows.indices, rows.starts), shape=shape)
