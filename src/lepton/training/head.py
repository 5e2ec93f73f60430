"""Method `head`: a frozen encoder of the engine with a linear model on its vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.encoder_scorer import Encoder, EncoderScorer, encoder_for
from lepton.training.features import Floats, TfIdf
from lepton.training.linear import LinearScorer, fit_features, fit_weights, sparse_matrix
from lepton.training.scorers import Fitted, ProgressCallback
from lepton.training.selection import LinearChoice, choose_linear

COSTS = (1.0, 3.0, 10.0, 30.0)
TERM_WEIGHTS = (1.0, 0.5, 2.0, 0.0)
"""How much counted terms weigh beside the encoder's vectors, which have length 1; the first wins
where several do equally well."""


def fit_head(
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,  # noqa: ARG001
    progress: ProgressCallback,
) -> Fitted:
    """Embed all texts once, then choose costs and whether counted terms help."""
    encoder = Encoder(config.encoder or encoder_for(dataset.texts))
    vectors = encoder.embed(dataset.texts, progress)
    checked = (encoder.embed(validation.texts), validation) if validation else None
    return fit_on_vectors(encoder, vectors, dataset, checked, config, progress)


def fit_on_vectors(
    encoder: Encoder,
    vectors: Floats,
    dataset: Dataset,
    validation: tuple[Floats, Dataset] | None,
    config: TrainingConfig,
    progress: ProgressCallback,
) -> Fitted:
    """Fit the linear model on vectors [texts, dimensions] and counted terms.

    The weight of the terms, the cost and the labels' weights are chosen on ``validation`` (vectors
    and rows), or by cross-validation.
    """
    features = fit_features(dataset.texts)
    terms = sparse_matrix(features.rows(dataset.texts))
    checked_terms = sparse_matrix(features.rows(validation[1].texts)) if validation else None
    best: LinearChoice | None = None
    best_weight = 0.0
    for number, weight in enumerate(TERM_WEIGHTS):
        checked = (
            (_joined(validation[0], checked_terms, weight), validation[1]) if validation else None
        )

        def on_step(done: int, total: int, score: float, number: int = number) -> None:
            progress("choose", number * total + done, len(TERM_WEIGHTS) * total, {"score": score})

        choice = choose_linear(
            _joined(vectors, terms, weight),
            dataset,
            config,
            COSTS,
            validation=checked,
            on_step=on_step,
        )
        if best is None or choice.score > best.score:
            best, best_weight = choice, weight
    assert best is not None  # noqa: S101
    progress("fit", 0, None, {"score": best.score})
    weight_matrix, bias = fit_weights(
        _joined(vectors, terms, best_weight), dataset, best.apply(config), best.cost
    )
    held_out = (validation[1] if validation else dataset).take(best.held_out)
    details = {
        "encoder": encoder.model,
        "cost": best.cost,
        "class_weights": best.class_weights,
        "term_weight": best_weight,
        "score": best.score,
    }
    scorer = _scorer(encoder, features, weight_matrix, bias, best_weight, vectors.shape[1])
    return Fitted(scorer, held_out, best.held_out_scores, details)


def _scorer(
    encoder: Encoder,
    features: TfIdf,
    weight: Floats,
    bias: Floats,
    term_weight: float,
    dimensions: int,
) -> EncoderScorer:
    if not term_weight:
        return EncoderScorer(encoder, weight, bias)
    # The terms' rows were scaled before the fit; now their weights are.
    on_terms = LinearScorer(
        features, weight[dimensions:] * np.float32(term_weight), np.zeros_like(bias)
    )
    return EncoderScorer(encoder, weight[:dimensions], bias, on_terms)


def _joined(vectors: Floats, terms: Any, weight: float) -> Any:
    """Vectors and weighted terms side by side."""
    if not weight:
        return vectors
    from scipy.sparse import csr_matrix, hstack

    return hstack([csr_matrix(vectors), terms * weight], format="csr")
