"""What steps cost, learned from those that were measured."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from functools import lru_cache

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_PRIOR = (1.0, 1.15, 1.6, 2.5, 4.2, 7.5, 14.0, 27.0, 53.0, 105.0)
"""Steps of so many rows beside a step of one, until they have been seen: weights are read once a
step and multiplied once a row, so few rows are bound by memory and many by arithmetic."""
_SINGLE = 16
"""Up to here each number of rows has its own record: kernels that take several rows at a time make
their costs go up in stairs."""
_FORGET = 512
"""Records not renewed for so many steps in decode are given up, or a bad one might for ever keep
steps of its size from being tried again."""
_LEARN = 0.03
"""The weight of a step in the record of its size."""
_FOLLOW = 0.2
"""How soon the machine's pace is believed to have changed: sooner than what a size of steps costs
beside another, so that a neighbour's load does not count against the sizes that met with it."""
_OUTLIER = 3.0
"""A step so many times as long as expected counts as that long: the machine was busy elsewhere."""
_FIRST_TOKENS = 64
"""Prompt tokens of a step before anything was measured."""
_LEAST_WORK = 16.0
"""As much prompt is read in any step, in tokens at the beginning of one, so that prompts always
advance."""
_CONTEXT = 2100
"""Near this position attention costs a prompt token of SmolLM2 as much as all else does; where it
is another one for another model, what is measured makes up for it."""
_DEARER, _CHEAPER = 0.4, 0.2
_LONGEST_RATIO = 2.5
"""A step that reads prompts may take so many times as long as one that only decodes, so that
streams stay even."""
_CROWD_RATIO = 2.0
"""While more prompts than streams wait, longer by so many times what there are more: long pieces
are read faster, which is worth more to the many than even gaps are to the few."""
_LEAST_TARGET_SECONDS = 0.02
"""Shorter steps read prompts in pieces too small to be multiplied well."""
_ALONE_SECONDS = 1.0
"""How long a step may take that no completion waits for: new requests, cancellations and whoever
asks whether the loop still goes round wait for its end."""


class StepPacer:
    """Expects how long a step will take, to bound it and to tell whether a draft pays.

    Only sizes of steps depend on it, never what they compute. Used by the step loop only.
    """

    def __init__(self, target_seconds: float) -> None:
        self.target_seconds = target_seconds
        self._decode: dict[int, float] = {}
        """Seconds of steps that only decode, by their rows or the next larger of ``_ROWS``, at the
        usual pace."""
        self._sizes: list[int] = []
        """Those of ``_decode``, the smallest first."""
        self._pace = 1.0
        """How many times as long steps take now."""
        self._renewed: dict[int, int] = {}
        """When, in steps."""
        self._num_decode = 0
        self._work_seconds: float | None = None
        """Seconds for one unit of ``prefill_work``."""

    def note(self, decode_rows: int, prefill_work: float, seconds: float) -> None:
        """Take in a step that has been computed."""
        if prefill_work > 0:
            self._note_prefill(max(0.0, seconds - self.decode_seconds(decode_rows)) / prefill_work)
        elif decode_rows > 0:
            self._note_decode(decode_rows, seconds)

    def decode_seconds(self, rows: int) -> float:
        """Seconds that a step of ``rows`` tokens in decode is expected to take; 0 when unknown."""
        if rows <= 0 or not self._decode:
            return 0.0
        size = _size(rows)
        return self._expected(size) * self._pace * _prior(rows) / _prior(size)

    def prefill_seconds(self, prefill_work: float) -> float:
        """Seconds that reading so much prompt is expected to take; 0 when unknown."""
        return prefill_work * (self._work_seconds or 0.0)

    def prefill_work(self, decode_rows: int, crowd: float = 0.0) -> float:
        """How much prompt may be read beside ``decode_rows``, in units of ``work``.

        ``crowd`` is how many prompts there are for each stream.
        """
        if self._work_seconds is None:
            return float(_FIRST_TOKENS)
        if decode_rows == 0:
            return max(_LEAST_WORK, _ALONE_SECONDS / self._work_seconds)
        decode_seconds = self.decode_seconds(decode_rows)
        longest = _LONGEST_RATIO * (1 + _CROWD_RATIO * max(0.0, crowd - 1))
        spare = self._target(decode_seconds, longest) - decode_seconds
        return max(_LEAST_WORK, spare / self._work_seconds)

    def prefill_tokens(self, decode_rows: int, crowd: float = 0.0) -> int:
        """As many tokens from the beginning of a prompt."""
        return tokens_for(self.prefill_work(decode_rows, crowd), 0)

    def _target(self, decode_seconds: float, longest_ratio: float) -> float:
        """How long a step may take whose completions alone take ``decode_seconds``; 0: unknown."""
        if decode_seconds == 0:
            return self.target_seconds
        even = max(_LEAST_TARGET_SECONDS, longest_ratio * decode_seconds)
        return min(self.target_seconds, even)

    def _note_prefill(self, seconds: float) -> None:
        known = self._work_seconds
        if known is None:
            self._work_seconds = max(seconds, 1e-9)
            return
        seconds = min(max(seconds, known / _OUTLIER), known * _OUTLIER)
        change = seconds - known
        self._work_seconds = known + change * (_DEARER if change > 0 else _CHEAPER)

    def _note_decode(self, rows: int, seconds: float) -> None:
        size = _size(rows)
        seconds *= _prior(size) / _prior(rows)
        self._num_decode += 1
        self._renewed[size] = self._num_decode
        known = self._decode.get(size)
        if known is None:
            self._decode[size] = seconds / self._pace
            insort(self._sizes, size)
        else:
            self._pace += _FOLLOW * (min(seconds / known, _OUTLIER) - self._pace)
            usual = min(seconds / self._pace, known * _OUTLIER)
            self._decode[size] += _LEARN * (usual - known)
        for other, renewed in list(self._renewed.items()):
            if self._num_decode - renewed > _FORGET:
                del self._renewed[other], self._decode[other]
                self._sizes.remove(other)

    def _expected(self, size: int) -> float:
        """Seconds at the usual pace, by a size's own record or those of its neighbours in size."""
        if size in self._decode:
            return self._decode[size]
        place = bisect_left(self._sizes, size)
        smaller, larger = (
            self._sizes[max(0, place - 1)],
            self._sizes[min(place, len(self._sizes) - 1)],
        )
        share = 0.0 if smaller == larger else math.log(size / smaller) / math.log(larger / smaller)
        low, high = (self._decode[other] / _prior(other) for other in (smaller, larger))
        return ((1 - share) * low + share * high) * _prior(size)


def work(start: int, count: int) -> float:
    """The work of reading ``count`` prompt tokens from position ``start``, in first tokens."""
    return count * (1 + (start + count / 2) / _CONTEXT)


def tokens_for(available: float, start: int) -> int:
    """The most tokens from position ``start`` whose ``work`` is within what is available."""
    slope = 1 + start / _CONTEXT
    return int(_CONTEXT * (math.sqrt(slope * slope + 2 * available / _CONTEXT) - slope) + 1e-6)


def _size(rows: int) -> int:
    """The number of rows under which a step is recorded."""
    return rows if rows <= _SINGLE else _ROWS[min(bisect_left(_ROWS, rows), len(_ROWS) - 1)]


@lru_cache(maxsize=1024)
def _prior(rows: int) -> float:
    """``_PRIOR`` between and beyond its points."""
    place = bisect_left(_ROWS, rows)
    if place == len(_ROWS):
        return _PRIOR[-1] * rows / _ROWS[-1]
    if _ROWS[place] == rows:
        return _PRIOR[place]
    low, high = _ROWS[place - 1], _ROWS[place]
    share = (rows - low) / (high - low)
    return _PRIOR[place - 1] * (1 - share) + _PRIOR[place] * share
