"""A tuned encoder's scores together with those of counted terms, where that helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.encoder_scorer import EncoderScorer
from lepton.training.features import Floats
from lepton.training.linear import COSTS, LinearScorer, fit_features, fit_weights, sparse_matrix
from lepton.training.selection import choose_linear, judge

SHARES = (0.0, 0.25, 0.5, 1.0, 2.0)
"""What the scores of counted terms are multiplied by before they are added; the first wins where
several do equally well."""


def add_terms(
    scorer: EncoderScorer,
    scores: Floats,
    train: Dataset,
    held_out: Dataset,
    config: TrainingConfig,
) -> tuple[EncoderScorer, Floats, Mapping[str, Any]]:
    """Fit a linear model on terms and choose its share on rows not trained on.

    Args:
        scorer: the encoder with its layer.
        scores: its scores [rows, outputs] of ``held_out``.
        train: rows to learn from.
        held_out: rows to choose on.
        config: settings of the labels' weights and the seed.

    Returns:
        The scorer, its scores of ``held_out``, and what was chosen.
    """
    features = fit_features(train.texts)
    matrix = sparse_matrix(features.rows(train.texts))
    checked = sparse_matrix(features.rows(held_out.texts))
    choice = choose_linear(matrix, train, config, COSTS, validation=(checked, held_out))
    share = max(SHARES, key=lambda share: judge(scores + share * choice.held_out_scores, held_out))
    blended = scores + share * choice.held_out_scores
    chosen = {"term_share": share, "score": judge(blended, held_out)}
    if not share:
        return scorer, scores, chosen
    weight, bias = fit_weights(matrix, train, choice.apply(config), choice.cost)
    terms = LinearScorer(features, weight * share, bias * share)
    return replace(scorer, terms=terms), blended, chosen
