"""From logits to the next tokens, on the native core."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

from lepton.engine.logprobs import RowLogprobs
from lepton.engine.sequence import Sequence
from lepton.errors import EngineError
from lepton.kernels import _native
from lepton.models.executors.base import Float32Array

_SEED_MASK = 2**64 - 1
_ALL = 2**31 - 1

_FAILURES = {
    _native.NOT_FINITE: "the model's output is not finite (NaN or infinity in the logits)",
    _native.ALL_BARRED: "min_tokens bars every token of the vocabulary",
}


class Choice(NamedTuple):
    """The next token of a sequence."""

    token_id: int
    logprobs: RowLogprobs | None
    """Where the request asks for them."""


class Sampler:
    """Chooses the next tokens of a step, its rows in parallel. One caller at a time.

    A token depends on nothing but its logits and its sequence, so a completion never depends on
    what runs beside it. Random numbers come from Philox (https://doi.org/10.1145/2063384.2063405)
    keyed by (seed, completion index) and counted by position.
    """

    def __init__(self, pool: _native.ThreadPool | None) -> None:
        """Share the executor's threads, or do without."""
        self._native = _native.Sampler(pool or _native.ThreadPool(1))

    def num_best(self, sequence: Sequence, rows: int = 1) -> int:
        """How many of the largest logits decide a sequence's next tokens; 0: any may matter."""
        params = sequence.request.params
        if params.logprobs is not None or params.penalized:
            return 0
        state, position = _state(sequence), len(sequence.token_ids)
        counts = {state.num_deciding(position + row) for row in range(rows)}
        return 0 if 0 in counts else min(max(counts), _ALL)

    def sample(
        self,
        logits: Float32Array,
        rows: SequenceOf[int],
        sequences: SequenceOf[Sequence],
        positions: SequenceOf[int] | None = None,
    ) -> list[Choice | EngineError]:
        """The token of each sequence at a position, from its row of logits [rows, vocab].

        Without ``positions`` it is the next. In the place of a choice stands an error when the row
        is not finite or no token is left.
        """
        states = [_state(sequence) for sequence in sequences]
        if positions is None:
            positions = [len(sequence.token_ids) for sequence in sequences]
        tokens = self._native.sample(logits, list(rows), states, list(positions))
        logprobs = self._wanted_logprobs(logits, rows, sequences, tokens)
        return [
            Choice(token, logprobs.get(place)) if token >= 0 else EngineError(_FAILURES[token])
            for place, token in enumerate(tokens)
        ]

    def verify(
        self,
        logits: Float32Array,
        rows: SequenceOf[int],
        sequence: Sequence,
        draft: SequenceOf[int],
    ) -> list[Choice | EngineError]:
        """The tokens that follow a sequence as long as they are those of the draft, and one more.

        Row i of ``rows`` is computed after i tokens of the draft.
        """
        position = len(sequence.token_ids)
        if not sequence.request.params.penalized:
            choices = self.sample(
                logits, rows, [sequence] * len(rows), range(position, position + len(rows))
            )
            return choices[: 1 + num_accepted(choices, draft)]
        choices = []
        for offset, row in enumerate(rows):
            choices += self.sample(logits, [row], [sequence], [position + offset])
            if num_accepted(choices, draft) <= offset:
                break
            # What is kept is seen by the penalties of the next row.
            _state(sequence).observe([draft[offset]])
        return choices

    def logprobs(
        self, logits: Float32Array, rows: list[int], token_ids: list[int], count: int
    ) -> list[RowLogprobs]:
        """Log probabilities of given tokens and of the ``count`` most likely, row by row."""
        found = self._native.logprobs(logits, rows, token_ids, [count] * len(rows))
        if any(chosen != chosen for chosen, _, _ in found):
            raise EngineError(_FAILURES[_native.NOT_FINITE])
        return found

    def _wanted_logprobs(
        self,
        logits: Float32Array,
        rows: SequenceOf[int],
        sequences: SequenceOf[Sequence],
        tokens: list[int],
    ) -> dict[int, RowLogprobs]:
        """By place in the lists, for the requests that ask for them."""
        counts = {
            place: count
            for place, sequence in enumerate(sequences)
            if (count := sequence.request.params.logprobs) is not None and tokens[place] >= 0
        }
        if not counts:
            return {}
        found = self._native.logprobs(
            logits,
            [rows[place] for place in counts],
            [tokens[place] for place in counts],
            list(counts.values()),
        )
        return dict(zip(counts, found, strict=True))


def num_accepted(choices: SequenceOf[Choice | EngineError], draft: SequenceOf[int]) -> int:
    """How many tokens of a draft were chosen, up to the first that was not."""
    for count, (choice, guess) in enumerate(zip(choices, draft, strict=False)):
        if isinstance(choice, EngineError) or choice.token_id != guess:
            return count
    return min(len(choices), len(draft))


def _state(sequence: Sequence) -> _native.SamplingState:
    """What the native core knows of a sequence, brought up to date."""
    state = sequence.sampling
    if state is None:
        state = sequence.sampling = _new_state(sequence)
    if sequence.request.params.penalized:
        state.observe(sequence.token_ids[state.num_observed :])
    return state


def _new_state(sequence: Sequence) -> _native.SamplingState:
    request = sequence.request
    params = request.params
    return _native.SamplingState(
        temperature=params.temperature,
        top_k=min(params.top_k, _ALL),
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        seed=request.seed & _SEED_MASK,
        index=sequence.index,
        num_prompt_tokens=sequence.num_prompt_tokens,
        stop_token_ids=[token for token in request.stop_token_ids if token <= _ALL],
        min_tokens=min(params.min_tokens, request.max_tokens),
    )
