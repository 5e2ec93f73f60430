"""Parts of a test set on which a model may do worse than on the whole."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lepton.data.scripts import HAN, KANA
from lepton.training.analyzer import han_share

Mask = npt.NDArray[np.bool_]

_WORD = re.compile(rf"[^\W\d_{HAN}{KANA}]{{4,}}|[{HAN}{KANA}]{{2,}}")


def slices(texts: Sequence[str]) -> dict[str, Mask]:
    """Which texts belong to each slice: thirds by length, and the scripts that occur."""
    lengths = np.asarray([len(text) for text in texts])
    lower, upper = np.quantile(lengths, (1 / 3, 2 / 3))
    shares = np.asarray([han_share(text) for text in texts])
    found = {
        f"length up to {lower:.0f} characters": lengths <= lower,
        f"length {lower:.0f} to {upper:.0f}": (lengths > lower) & (lengths <= upper),
        f"length over {upper:.0f}": lengths > upper,
        "Chinese": shares > 0.5,
        "mixed Chinese and other": (shares > 0.05) & (shares <= 0.5),
        "other languages": shares <= 0.05,
    }
    return {name: mask for name, mask in found.items() if mask.any() and not mask.all()}


def with_typos(texts: Sequence[str], *, rate: float = 0.15, seed: int = 0) -> list[str]:
    """The texts with two neighbouring characters swapped in about ``rate`` of the words."""
    generator = np.random.default_rng(seed)

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        if generator.random() >= rate:
            return word
        start = int(generator.integers(0, len(word) - 1))
        return word[:start] + word[start + 1] + word[start] + word[start + 2 :]

    return [_WORD.sub(swap, text) for text in texts]
