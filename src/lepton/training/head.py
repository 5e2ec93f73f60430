"""Method `head`: a frozen encoder of the engine with a linear model on its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.encoder_scorer import Encoder, EncoderScorer, encoder_for
from lepton.training.features import Floats, TfIdf
from lepton.training.label_names import choose_share, name_vectors
from lepton.training.linear import (
    LinearScorer,
    fit_features,
    fit_weights,
    row_coordinates,
    sparse_matrix,
)
from lepton.training.scorers import Fitted, ProgressCallback
from lepton.training.selection import LinearChoice, choose_linear, clearly_better, judge

COSTS = (1.0, 3.0, 10.0)
TERM_WEIGHTS = (1.0, 0.5, 2.0, 0.0)
"""How much counted terms weigh beside the encoder's vectors, which have length 1; the first is
left only for one clearly better."""


def fit_head(
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,  # noqa: ARG001
    progress: ProgressCallback,
) -> Fitted:
    """Embed all texts once, then choose costs and whether counted terms help."""
    encoder = Encoder(
        config.encoder or encoder_for(dataset.texts),
        long_texts="window" if config.max_tokens is None else "truncate",
        max_tokens=config.max_tokens,
        fields=config.fields,
    )
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
    compared = terms if validation else row_coordinates(terms)
    steps = len(TERM_WEIGHTS) + 2 * len(COSTS)

    def choose(weight: float, costs: Sequence[float], first: int, **options: Any) -> LinearChoice:
        """The best cost for one weight of the terms; ``first`` steps were done before."""
        checked = (
            (joined(validation[0], checked_terms, weight), validation[1]) if validation else None
        )
        return choose_linear(
            joined(vectors, compared, weight),
            dataset,
            config,
            costs,
            validation=checked,
            on_step=lambda done, _, score: progress(
                "choose", first + done, steps, {"score": score}
            ),
            **options,
        )

    # First the weight of the terms, at one cost, then the cost and the labels' weights.
    judged = validation[1] if validation else dataset
    best_weight, best = TERM_WEIGHTS[0], None
    for number, weight in enumerate(TERM_WEIGHTS):
        choice = choose(weight, COSTS[:1], number, weightings=(config.class_weights,))
        if best is None or clearly_better(choice.held_out_scores, best.held_out_scores, judged):
            best_weight, best = weight, choice
    best = choose(best_weight, COSTS, len(TERM_WEIGHTS))
    progress("fit", 0, None, {"score": best.score})
    weight_matrix, bias = fit_weights(
        joined(vectors, terms, best_weight), dataset, best.apply(config), best.cost
    )
    held_out = judged.take(best.held_out)
    seen = (validation[0] if validation else vectors)[best.held_out]
    share, scores = 0.0, best.held_out_scores
    if (names := name_vectors(encoder, dataset)) is not None:
        share = choose_share(scores, seen @ names, held_out)
        scores = scores + share * (seen @ names)
        weight_matrix[: len(names)] += share * names
    details = {
        "encoder": encoder.model,
        "cost": best.cost,
        "class_weights": best.class_weights,
        "term_weight": best_weight,
        "name_share": share,
        "score": judge(scores, held_out),
    }
    scorer = on_vectors_and_terms(
        encoder, features, weight_matrix, bias, best_weight, vectors.shape[1]
    )
    return Fitted(scorer, held_out, scores, details)


def on_vectors_and_terms(
    encoder: Encoder,
    features: TfIdf,
    weight: Floats,
    bias: Floats,
    term_weight: float,
    dimensions: int,
) -> EncoderScorer:
    """Take a layer on vectors and weighted terms side by side apart into one on each."""
    if not term_weight:
        return EncoderScorer(encoder, weight, bias)
    # The terms' rows were scaled before the fit; now their weights are.
    on_terms = LinearScorer(
        features, weight[dimensions:] * np.float32(term_weight), np.zeros_like(bias)
    )
    return EncoderScorer(encoder, weight[:dimensions], bias, on_terms)


def joined(vectors: Floats, terms: Any, weight: float) -> Any:
    """Vectors [texts, dimensions] and weighted terms side by side; weight 0 leaves terms out."""
    if not weight:
        return vectors
    if isinstance(terms, np.ndarray):
        return np.hstack([vectors, terms * weight])
    from scipy.sparse import csr_matrix, hstack

    return hstack([csr_matrix(vectors), terms * weight], format="csr")
