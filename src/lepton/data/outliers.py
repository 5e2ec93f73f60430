"""Texts unlike the others: far too long, without words, or in letters that occur nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lepton.data.normalization import comparison_key
from lepton.data.scripts import has_han

_SLOTS = 1 << 22
# Multiplicative hashing (Knuth, The Art of Computer Programming, volume 3, 6.4): the upper bits of
# a product with 2⁶⁴ divided by the golden ratio.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - 22)
_MOST = 2**16 - 1
_MIN_PIECES = 8
_RARE = 1000
_RARE_SHARE = 0.85
_MIN_TEXTS = 200
_PIECES_LOOKED_AT = 400


def length_limit(lengths: Sequence[int] | NDArray[np.int64]) -> int:
    """Characters from which a text is an outlier: Tukey's outer fence on logarithms of lengths.

    At least four times the median, so that a table of texts of one length has no outliers.
    """
    known = np.asarray(lengths, np.float64)
    known = known[known > 0]
    if not len(known):
        return 1
    low, median, high = np.quantile(np.log(known), [0.25, 0.5, 0.75])
    return int(np.ceil(max(np.exp(high + 3 * (high - low)), 4 * np.exp(median))))


class StrangeLetters:
    """Which texts are written in sequences of letters that no other text has, as ``asdjkl`` is.

    Counts sequences of three letters (two with Chinese) by hash, in 8 MB for any number of texts.
    """

    def __init__(self) -> None:
        self._texts_with = np.zeros(_SLOTS, np.uint16)
        self._count = 0

    def add(self, text: str) -> None:
        """Count the sequences of ``text``."""
        slots = self._slots(text)
        seen = self._texts_with[slots]
        self._texts_with[slots] = np.where(seen < _MOST, seen + 1, seen)
        self._count += 1

    def strange(self, text: str) -> bool:
        """Whether hardly any other text has the sequences of ``text``, which was added before.

        Never so among fewer than 200 texts, nor for a text of fewer than 10 letters.
        """
        if self._count < _MIN_TEXTS:
            return False
        slots = self._slots(text)
        if len(slots) < _MIN_PIECES:
            return False
        rare = max(1, self._count // _RARE)
        return bool(np.mean(self._texts_with[slots] <= rare) > _RARE_SHARE)

    @staticmethod
    def _slots(text: str) -> NDArray[np.int64]:
        key = comparison_key(text)[:_PIECES_LOOKED_AT]
        width = 2 if has_han(key) else 3
        points = np.frombuffer(key.encode("utf-32-le", "surrogatepass"), np.uint32)
        hashes = np.zeros(max(0, len(points) - width + 1), np.uint64)
        for place in range(width):
            hashes = (hashes + points[place : place + len(hashes)]) * _MULTIPLIER
        return np.unique(hashes >> _SHIFT).astype(np.int64)
