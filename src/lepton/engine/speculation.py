"""Which completions are worth guessing at, and how far.

A draft is verified by sampling each of its positions from the model's own logits with the request's
own random numbers; what agrees is kept (arXiv:2211.17192 without its rejection step: the numbers
are counted by position, so the token sampled at a place is the same with and without a draft).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as SequenceOf
from itertools import accumulate, repeat
from operator import mul

from lepton.engine.proposals import Proposal, ProposalSource
from lepton.engine.sequence import Sequence
from lepton.engine.step_pacer import StepPacer

logger = logging.getLogger(__name__)

_PRIOR_TRIALS = 8.0
_MEMORY = 0.97
"""What a trial still weighs one trial later."""
_LEAST_GAIN = 1.03
"""Drafts must promise at least so many times the tokens per second."""
_PROBE_TOKENS, _PROBE_SHARE = 4, 0.02
"""Where a source that takes time is not worth it, it is tried with so many tokens now and then, as
its share of right ones may have changed; that takes so much of the time of steps at most."""


class Record:
    """Shares of right tokens by class; recent ones weigh more."""

    def __init__(self, expected: SequenceOf[float]) -> None:
        self._expected = expected
        self._trials = [0.0] * len(expected)
        self._hits = [0.0] * len(expected)

    def note(self, kind: int, hit: bool) -> None:
        """Take in whether a token of a class was right."""
        self._trials[kind] = self._trials[kind] * _MEMORY + 1
        self._hits[kind] = self._hits[kind] * _MEMORY + hit

    def share(self, kind: int, prior: float | None = None) -> float:
        """The share of right tokens of a class; ``prior``, or the expected, if little is known."""
        if prior is None:
            prior = self._expected[kind]
        return (self._hits[kind] + _PRIOR_TRIALS * prior) / (self._trials[kind] + _PRIOR_TRIALS)


class Guess:
    """What is known for guessing at one sequence, and the guess that its next tokens will test."""

    def __init__(self, expected: SequenceOf[float], num_known: int) -> None:
        self.record = Record(expected)
        self.num_known = num_known
        """Tokens of the sequence that guesses were compared with."""
        self.proposal = Proposal()
        """What is left of the last guess."""
        self.broken = False


class Speculator:
    """Chooses drafts for a step by what they promise and what they cost. Step loop only.

    Guesses are compared with what came whether or not they are verified as drafts. A source that
    costs nothing guesses at every step, and others every now and then at least: so speculation
    switches itself on and off without trying it at a loss.
    """

    def __init__(self, source: ProposalSource, pacer: StepPacer, max_draft_tokens: int) -> None:
        self.source = source
        self._pacer = pacer
        self._max_tokens = max_draft_tokens
        self._record = Record(source.expected)
        """Over all sequences."""
        self._idle_seconds = 0.0
        """Of steps, as expected, since the source was last asked."""

    def drafts(self, sequences: SequenceOf[Sequence]) -> dict[Sequence, list[int]]:
        """The drafts that a step which continues ``sequences`` should verify.

        None while prompts are being read: they make better use of a step's time.
        """
        if any(each.num_pending > 1 and not each.restoring for each in sequences):
            return {}
        decoding = [each for each in sequences if each.num_pending == 1 and each.num_generated]
        rows = len(decoding)
        if not decoding or not self._may_pay(rows):
            return {}
        guesses = [self._guess(each) for each in decoding]
        counts = [
            0 if guess.broken else min(count, each.request.max_tokens - each.num_generated - 1)
            for each, guess, count in zip(
                decoding, guesses, self._counts(decoding, guesses), strict=True
            )
        ]
        asked = [place for place, count in enumerate(counts) if count > 0]
        self._ask(
            [decoding[place] for place in asked],
            [guesses[place] for place in asked],
            [counts[place] for place in asked],
        )
        chances = [(chance, place) for place in asked for chance in self._chances(guesses[place])]
        if not chances:
            return {}
        chances.sort(reverse=True)
        lengths = [0] * rows
        for _, place in chances[: self._best(rows, [chance for chance, _ in chances])]:
            lengths[place] += 1
        return {
            sequence: guess.proposal.tokens[:length]
            for sequence, guess, length in zip(decoding, guesses, lengths, strict=True)
            if length
        }

    def forget(self, sequence: Sequence, *, trusted: bool = True) -> None:
        """Let go of a sequence that has ended."""
        sequence.guess = None
        self.source.forget(sequence, trusted=trusted)

    def clear(self) -> None:
        """Let go of every sequence."""
        self.source.clear()

    def close(self) -> None:
        """Release what the source has taken."""
        self.source.close()

    def _may_pay(self, rows: int) -> bool:
        """Whether drafts of certain tokens would pay beside so many completions."""
        if self._pacer.decode_seconds(rows) == 0:
            return False
        likely = [max(self.source.expected)] * self._max_tokens
        return self._best(rows, likely, self.source.seconds(1)) > 0

    def _best(self, rows: int, chances: SequenceOf[float], seconds: float = 0.0) -> int:
        """How many of the draft tokens, the likeliest first, give the most tokens per second.

        Each takes ``seconds`` to be proposed, apart from being verified.
        """
        best, most = 0, rows * _LEAST_GAIN / self._pacer.decode_seconds(rows)
        expected = float(rows)
        for count, chance in enumerate(chances, start=1):
            expected += chance
            rate = expected / (self._pacer.decode_seconds(rows + count) + count * seconds)
            if rate > most:
                best, most = count, rate
        return best

    def _guess(self, sequence: Sequence) -> Guess:
        """What is known of a sequence, its last guess compared with what came."""
        token_ids = sequence.token_ids
        guess = sequence.guess
        if guess is None:
            guess = sequence.guess = Guess(self.source.expected, len(token_ids))
        proposal, came = guess.proposal, token_ids[guess.num_known :]
        guess.num_known = len(token_ids)
        for guessed, kind, token in zip(proposal.tokens, proposal.kinds, came, strict=False):
            for record in (guess.record, self._record):
                record.note(kind, guessed == token)
            if guessed != token:
                guess.proposal = Proposal()
                return guess
        guess.proposal = Proposal(proposal.tokens[len(came) :], proposal.kinds[len(came) :])
        return guess

    def _counts(self, sequences: SequenceOf[Sequence], guesses: SequenceOf[Guess]) -> list[int]:
        """How many tokens to ask the source for, for each sequence."""
        if self.source.seconds(1) == 0:
            return [self._max_tokens] * len(guesses)
        shares = [self._share(guess, 0) for guess in guesses]
        order = sorted(range(len(guesses)), key=lambda place: shares[place], reverse=True)
        number, depth = self._most_worth([shares[place] for place in order])
        counts = [0] * len(guesses)
        for place in order[:number]:
            counts[place] = depth
        if number == 0:
            self._idle_seconds += self._pacer.decode_seconds(len(guesses))
            prices = [self.source.catch_up_seconds(each) for each in sequences]
            price = min(prices) + _PROBE_TOKENS * self.source.seconds(1)
            if price <= _PROBE_SHARE * self._idle_seconds:
                counts[prices.index(min(prices))] = _PROBE_TOKENS
        return counts

    def _most_worth(self, shares: SequenceOf[float]) -> tuple[int, int]:
        """For how many sequences, the likeliest first, how many tokens each are worth the most.

        Each token of sequence i is right with chance ``shares[i]``, which fall.
        """
        rows = len(shares)
        best, most = (0, 0), rows * _LEAST_GAIN / self._pacer.decode_seconds(rows)
        gains = [0.0] * self._max_tokens
        for number, share in enumerate(shares, start=1):
            chances = accumulate(repeat(share, self._max_tokens), mul)
            gains = [gain + kept for gain, kept in zip(gains, accumulate(chances), strict=True)]
            seconds = self.source.seconds(number)
            for depth, gain in enumerate(gains, start=1):
                verifying = self._pacer.decode_seconds(rows + number * depth)
                rate = (rows + gain) / (verifying + depth * seconds)
                if rate > most:
                    best, most = (number, depth), rate
        return best

    def _ask(
        self,
        sequences: SequenceOf[Sequence],
        guesses: SequenceOf[Guess],
        counts: SequenceOf[int],
    ) -> None:
        """Let the source guess; of sequences at which it fails no more is asked."""
        if not sequences:
            return
        try:
            proposals = self.source.propose(sequences, counts)
        except Exception:
            logger.exception("guessing at %d sequences failed", len(sequences))
            for guess, sequence in zip(guesses, sequences, strict=True):
                self.source.forget(sequence, trusted=False)
                guess.proposal = Proposal()
            if len(sequences) == 1:
                guesses[0].broken = True
                return
            for sequence, guess, count in zip(sequences, guesses, counts, strict=True):
                self._ask([sequence], [guess], [count])
            return
        for guess, proposal in zip(guesses, proposals, strict=True):
            guess.proposal = proposal
            if proposal.tokens:
                self._idle_seconds = 0.0

    def _chances(self, guess: Guess) -> list[float]:
        """How likely each token of a guess comes to be kept."""
        shares = (self._share(guess, kind) for kind in guess.proposal.kinds)
        return list(accumulate(shares, mul))

    def _share(self, guess: Guess, kind: int) -> float:
        return guess.record.share(kind, self._record.share(kind))
