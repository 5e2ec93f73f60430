"""What the labels' names say: a text near the name of a label is likelier to have it.

The cosines of a text's vector with the vectors of the labels' names are added to the scores of a
linear model, as zero-shot classification does without one (arXiv:1909.00161). They need no rows, so
they help most where there are few.
"""

from __future__ import annotations

import numpy as np

from lepton.training.dataset import Dataset
from lepton.training.encoder_scorer import Encoder
from lepton.training.features import Floats
from lepton.training.selection import clearly_better

_SHARES = (1.0, 2.0, 0.5, 0.0)
"""What the names' scores are multiplied by; the first is left only for one clearly better."""


def name_vectors(encoder: Encoder, dataset: Dataset) -> Floats | None:
    """Directions towards the labels' names: [dimensions, labels], of mean length 1.

    None where there is one label or none a text to name, or names have no letters.
    """
    names = [label.replace("_", " ") for label in dataset.labels]
    readable = any(character.isalpha() for name in names for character in name)
    if dataset.objective != "single" or not readable:
        return None
    sentences = [_sentence(name) for name in names]
    vectors = encoder.embed(["\n".join([text] * encoder.fields) for text in sentences])
    vectors = vectors - vectors.mean(axis=0)
    length = float(np.linalg.norm(vectors, axis=1).mean())
    return (vectors / length).T if length else None


def choose_share(scores: Floats, named: Floats, held_out: Dataset) -> float:
    """How much of ``named`` to add to ``scores``, both [rows, labels] of ``held_out``."""
    best = _SHARES[0]
    for share in _SHARES[1:]:
        if clearly_better(scores + share * named, scores + best * named, held_out):
            best = share
    return best


def _sentence(name: str) -> str:
    return f"This text is about {name}." if name.isascii() else f"这段文字是关于{name}的。"
