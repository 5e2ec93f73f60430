"""From logits to the next token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.engine.sampling_params import SamplingParams
from lepton.engine.sequence import Sequence
from lepton.errors import EngineError
from lepton.models.executors.base import Float32Array

_SEED_MASK = 2**64 - 1
_STRETCH = 512


def sample(logits: Float32Array, sequence: Sequence) -> int:
    """The next token of a sequence, from its logits [vocab], which are left as they are.

    Depends on nothing but the logits and the sequence, so a completion never depends on what runs
    beside it. Raises EngineError when the logits are not finite or no token is left to choose.
    """
    params = sequence.request.params
    if not np.isfinite(logits).all():
        raise EngineError("the model's output is not finite (NaN or infinity in the logits)")
    logits = _restrict(_penalize(logits, sequence), sequence)
    best = int(logits.argmax())
    if logits[best] == -np.inf:
        raise EngineError("min_tokens bars every token of the vocabulary")
    if params.greedy:
        return best
    ids, weights = _candidates(logits, best, params)
    drawn = uniform(sequence.request.seed, sequence.index, len(sequence.token_ids))
    place = _place(weights, drawn)
    return place if ids is None else int(ids[place])


def uniform(seed: int, index: int, position: int) -> float:
    """The random number in [0, 1) for one token: Philox keyed by (seed, completion index)."""
    key = np.array([seed & _SEED_MASK, index], dtype=np.uint64)
    counter = np.array([position, 0, 0, 0], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=counter)
    return np.random.Generator(generator).random()


def _penalize(logits: Float32Array, sequence: Sequence) -> Float32Array:
    """Repetition penalty over all tokens, presence and frequency penalties over generated ones."""
    params = sequence.request.params
    if not params.penalized:
        return logits
    logits = logits.copy()
    if params.repetition_penalty != 1:
        seen = np.unique(sequence.token_ids)
        values = logits[seen]
        logits[seen] = np.where(
            values > 0, values / params.repetition_penalty, values * params.repetition_penalty
        )
    generated = sequence.token_ids[sequence.num_prompt_tokens :]
    if generated:
        tokens, counts = np.unique(generated, return_counts=True)
        penalty = params.presence_penalty + params.frequency_penalty * counts
        logits[tokens] -= penalty.astype(np.float32)
    return logits


def _restrict(logits: Float32Array, sequence: Sequence) -> Float32Array:
    """Bar every id that ends the sequence while it is shorter than min_tokens."""
    request = sequence.request
    if sequence.num_generated >= request.params.min_tokens:
        return logits
    barred = _valid(request.stop_token_ids, len(logits))
    logits = logits.copy()
    logits[barred] = -np.inf
    return logits


def _valid(token_ids: Iterable[int], vocab_size: int) -> list[int]:
    return [token for token in token_ids if token < vocab_size]


def _candidates(
    logits: Float32Array, best: int, params: SamplingParams
) -> tuple[npt.NDArray[Any] | None, Float32Array]:
    """The tokens that may be drawn (None: all) and their weights, of which the largest is 1."""
    ids: npt.NDArray[Any] | None = None
    scaled = (logits - logits[best]) / np.float32(max(params.temperature, 1e-6))
    if 0 < params.top_k < len(scaled):
        smallest_kept = np.partition(scaled, len(scaled) - params.top_k)[-params.top_k]
        ids = np.flatnonzero(scaled >= smallest_kept)
        scaled = scaled[ids]
    weights = np.exp(scaled)
    if params.top_p < 1:
        places = _nucleus(weights, params.top_p)
        ids = places if ids is None else ids[places]
        weights = weights[places]
    if params.min_p > 0:
        places = np.flatnonzero(weights >= params.min_p)
        ids = places if ids is None else ids[places]
        weights = weights[places]
    return ids, weights


def _place(weights: Float32Array, drawn: float) -> int:
    """The place where the running sum of the weights passes ``drawn`` (in [0, 1)) of the total.

    Whole stretches are summed first, because a running sum over the vocabulary is slow.
    """
    starts = np.arange(0, len(weights), _STRETCH)
    ends = np.cumsum(np.add.reduceat(weights, starts, dtype=np.float64))
    target = drawn * ends[-1]
    stretch = min(int(np.searchsorted(ends, target, side="right")), len(starts) - 1)
    before = ends[stretch - 1] if stretch else 0.0
    start = stretch * _STRETCH
    sums = np.cumsum(weights[start : start + _STRETCH], dtype=np.float64)
    place = int(np.searchsorted(sums, target - before, side="right"))
    if place == len(sums):  # Rounding took the target past the end: the last that may be drawn.
        place = int(np.searchsorted(sums, sums[-1]))
    return start + place


def _nucleus(weights: Float32Array, top_p: float) -> npt.NDArray[Any]:
    """Places of the fewest largest weights that make up ``top_p`` of the sum, largest first.

    Only weights above a falling threshold are sorted, until they suffice; the vocabulary is large
    and the nucleus mostly small.
    """
    wanted = top_p * weights.sum(dtype=np.float64)
    threshold = 2.0**-6
    places = np.flatnonzero(weights >= threshold)
    while weights[places].sum(dtype=np.float64) < wanted and threshold > 0:
        threshold = threshold / 64 if threshold > 2.0**-40 else 0.0
        places = np.flatnonzero(weights >= threshold)
    places = places[np.argsort(-weights[places], kind="stable")]
    before = np.cumsum(weights[places], dtype=np.float64) - weights[places]
    return places[: max(1, int(np.count_nonzero(before < wanted)))]
