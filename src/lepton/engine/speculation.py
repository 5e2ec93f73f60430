"""Which completions are worth guessing at, and how far.

A draft is verified by sampling each of its positions from the model's own logits with the request's
own random numbers; what agrees is kept (arXiv:2211.17192 without its rejection step: the numbers
are counted by position, so the token sampled at a place is the same with and without a draft).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as SequenceOf

from lepton.engine.prompt_lookup import MOST_MATCHING, PromptLookup
from lepton.engine.sequence import Sequence
from lepton.engine.step_pacer import StepPacer

logger = logging.getLogger(__name__)

_CLASS_OF = [0, 0, 1, 2] + [3] * 2 + [4] * 3 + [5] * 8 + [6] * (MOST_MATCHING - 16)
"""Classes of matches by their length: the longer, the likelier that the next token is right."""
_EXPECTED = (0.15, 0.3, 0.45, 0.6, 0.75, 0.88, 0.93)
"""Shares of right tokens by class, before any were seen."""
_PRIOR_TRIALS = 8.0
_MEMORY = 0.97
"""What a trial still weighs one trial later."""
_LEAST_GAIN = 1.03
"""Drafts must promise at least so many times the tokens per second."""


class Record:
    """Shares of right tokens by class of match; recent ones weigh more."""

    def __init__(self) -> None:
        self._trials = [0.0] * len(_EXPECTED)
        self._hits = [0.0] * len(_EXPECTED)

    def note(self, kind: int, hit: bool) -> None:
        """Take in whether a token of a class was right."""
        self._trials[kind] = self._trials[kind] * _MEMORY + 1
        self._hits[kind] = self._hits[kind] * _MEMORY + hit

    def share(self, kind: int, prior: float) -> float:
        """The share of right tokens of a class; ``prior`` where little was seen."""
        return (self._hits[kind] + _PRIOR_TRIALS * prior) / (self._trials[kind] + _PRIOR_TRIALS)


class Guess:
    """What is known for guessing at one sequence, and the guess that its next tokens will test."""

    def __init__(self) -> None:
        self.lookup = PromptLookup()
        self.record = Record()
        self.num_known = 0
        """Tokens of the sequence when the guess was made."""
        self.tokens: list[int] = []
        self.num_matching = 0
        self.broken = False


class Speculator:
    """Chooses drafts for a step by what they promise and what they cost. Step loop only.

    Guesses are made, and compared with what came, whether or not they are verified as drafts: so
    speculation switches itself on and off without trying it at a loss.
    """

    def __init__(self, pacer: StepPacer, max_draft_tokens: int) -> None:
        self._pacer = pacer
        self._max_tokens = max_draft_tokens
        self._record = Record()
        """Over all sequences."""

    def drafts(self, sequences: SequenceOf[Sequence]) -> dict[Sequence, list[int]]:
        """The drafts that a step which continues ``sequences`` should verify.

        None while prompts are being read: they make better use of a step's time.
        """
        if any(each.num_pending > 1 for each in sequences):
            return {}
        decoding = [each for each in sequences if each.num_pending == 1 and each.num_generated]
        if not decoding or not self._may_pay(len(decoding)):
            return {}
        chances = [
            (chance, place)
            for place, sequence in enumerate(decoding)
            for chance in self._chances(sequence)
        ]
        if not chances:
            return {}
        chances.sort(reverse=True)
        lengths = [0] * len(decoding)
        for _, place in chances[: self._best(len(decoding), [chance for chance, _ in chances])]:
            lengths[place] += 1
        return {
            sequence: sequence.guess.tokens[:length]
            for sequence, length in zip(decoding, lengths, strict=True)
            if length and sequence.guess is not None
        }

    def _may_pay(self, rows: int) -> bool:
        """Whether drafts of certain tokens would pay beside so many completions."""
        if self._pacer.decode_seconds(rows) == 0:
            return False
        return self._best(rows, [_EXPECTED[-1]] * self._max_tokens) > 0

    def _best(self, rows: int, chances: list[float]) -> int:
        """How many of the draft tokens, the likeliest first, give the most tokens per second."""
        best, most = 0, rows * _LEAST_GAIN / self._pacer.decode_seconds(rows)
        expected = float(rows)
        for count, chance in enumerate(chances, start=1):
            expected += chance
            rate = expected / self._pacer.decode_seconds(rows + count)
            if rate > most:
                best, most = count, rate
        return best

    def _chances(self, sequence: Sequence) -> list[float]:
        """Guess at a sequence; how likely each token of the guess comes to be kept."""
        guess = sequence.guess
        if guess is None:
            guess = sequence.guess = Guess()
        if guess.broken:
            return []
        try:
            self._renew(guess, sequence.token_ids)
        except Exception:
            logger.exception("request %s: no more guesses", sequence.request.request_id)
            guess.broken = True
            guess.tokens = []
        room = sequence.request.max_tokens - sequence.num_generated - 1
        chances = []
        chance = 1.0
        for offset in range(min(len(guess.tokens), room)):
            kind = _CLASS_OF[min(guess.num_matching + offset, MOST_MATCHING)]
            chance *= guess.record.share(kind, self._record.share(kind, _EXPECTED[kind]))
            chances.append(chance)
        return chances

    def _renew(self, guess: Guess, token_ids: list[int]) -> None:
        """Compare the last guess with what came, and make the next."""
        for offset, (guessed, came) in enumerate(
            zip(guess.tokens, token_ids[guess.num_known :], strict=False)
        ):
            kind = _CLASS_OF[min(guess.num_matching + offset, MOST_MATCHING)]
            for record in (guess.record, self._record):
                record.note(kind, guessed == came)
            if guessed != came:
                break
        guess.lookup.update(token_ids)
        guess.num_known = len(token_ids)
        guess.num_matching = guess.lookup.num_matching
        guess.tokens = guess.lookup.draft(token_ids, self._max_tokens)
