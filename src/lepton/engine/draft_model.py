"""A small model that guesses what the model is going to say.

Speculative decoding with a draft model (arXiv:2211.17192). Its tokens are sampled from its own
logits with the request's settings and with the random numbers that the model itself is going to use
at these places: where both models think alike they draw the same token, at any temperature.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from lepton.engine.block_pool import BlockPool, blocks_for
from lepton.engine.proposals import Proposal
from lepton.engine.runner import ModelRunner, Piece
from lepton.engine.sampler import Sampler
from lepton.engine.sequence import Sequence
from lepton.engine.step_pacer import StepPacer, tokens_for, work
from lepton.errors import ConfigurationError, EngineError
from lepton.models.executors.base import BLOCK_SIZE, Executor

if TYPE_CHECKING:
    from lepton.engine.config import EngineConfig
    from lepton.models.loader import Model

_SHORT = 4
"""So few tokens to catch up with count as decoding."""


class Held:
    """What the draft's cache holds of one sequence."""

    def __init__(self, found: list[int], token_ids: SequenceOf[int]) -> None:
        self.block_table = found
        self.tokens = list(token_ids[: len(found) * BLOCK_SIZE])
        """Those whose keys and values are in the blocks; guessed ones at the end may be wrong."""
        self.num_sure = len(self.tokens)
        """So many of them are the sequence's own."""
        self.num_published = len(found)

    def agree(self, token_ids: SequenceOf[int]) -> None:
        """Drop wrong guesses, and the last token: its logits are to be computed (again)."""
        known = min(len(self.tokens), len(token_ids) - 1)
        pairs = zip(
            self.tokens[self.num_sure : known], token_ids[self.num_sure : known], strict=True
        )
        self.num_sure += sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        del self.tokens[self.num_sure :]


class DraftModel:
    """Proposes what a smaller model would say; see `ProposalSource`.

    It has a paged cache of its own, with its own prefix cache, of fewer blocks than the model's:
    what it holds of a sequence is lost to others when these need it, and computed again.
    """

    expected = (0.6,)

    def __init__(self, executor: Executor, vocab_size: int, context: int, seconds: float) -> None:
        """Propose tokens below ``vocab_size`` at positions below ``context``.

        Reading what it does not know yet takes steps of about ``seconds``.
        """
        self.executor = executor
        self.pool = BlockPool(executor.num_blocks)
        self._vocab_size = vocab_size
        self._context = min(context, executor.num_blocks * BLOCK_SIZE)
        self._runner = ModelRunner(executor)
        self._sampler = Sampler(getattr(executor, "pool", None))
        self._pacer = StepPacer(seconds)
        self._held: dict[Sequence, Held] = {}
        """The least recently used first."""

    def seconds(self, num_sequences: int) -> float:
        """What one more token for each of so many sequences takes; 0 until it was seen."""
        return self._pacer.decode_seconds(num_sequences)

    def catch_up_seconds(self, sequence: Sequence) -> float:
        """What reading a sequence as far as it is not held takes; 0 until such was seen."""
        held = self._held.get(sequence)
        start = 0 if held is None else held.num_sure
        return self._pacer.prefill_seconds(work(start, len(sequence.token_ids) - start))

    def propose(self, sequences: SequenceOf[Sequence], counts: SequenceOf[int]) -> list[Proposal]:
        """Tokens for those sequences that the draft has read and that it has room for."""
        proposals = {sequence: Proposal() for sequence in sequences}
        lengths = {
            sequence: min(count, self._context - len(sequence.token_ids))
            for sequence, count in zip(sequences, counts, strict=True)
        }
        active = [each for each in sequences if lengths[each] > 0]
        active = [each for each in active if self._make_room(each, lengths[each], proposals)]
        active = self._catch_up(active, lengths, proposals)
        while active:
            active = [each for each in active if len(proposals[each].tokens) < lengths[each]]
            pieces = [self._next(each, proposals[each].tokens[-1:]) for each in active]
            active = self._advance(active, pieces, lengths, proposals)
        return list(proposals.values())

    def forget(self, sequence: Sequence, *, trusted: bool = True) -> None:
        """Give the blocks of a sequence back; unless ``trusted`` nobody finds them again."""
        held = self._held.pop(sequence, None)
        if held is not None:
            if not trusted:
                self.pool.forget(held.block_table)
            self.pool.release(held.block_table)

    def clear(self) -> None:
        """Begin with an empty cache."""
        self._held.clear()
        self.pool = BlockPool(self.executor.num_blocks)

    def close(self) -> None:
        """Release the executor."""
        self.executor.close()

    def check_integrity(self) -> None:
        """Raise AssertionError when an invariant is broken; used by tests."""
        self.pool.check_integrity(held.block_table for held in self._held.values())
        for sequence, held in self._held.items():
            if held.tokens[: held.num_sure] != sequence.token_ids[: held.num_sure]:
                raise AssertionError("the draft's cache holds other tokens than the sequence")
            if len(held.tokens) > len(held.block_table) * BLOCK_SIZE:
                raise AssertionError("the draft has outgrown its blocks")
            if held.num_published * BLOCK_SIZE > held.num_sure:
                raise AssertionError("the draft has published guesses")

    def _make_room(self, sequence: Sequence, count: int, keep: dict[Sequence, Proposal]) -> bool:
        """Blocks for a sequence and ``count`` tokens more, if need be those of others."""
        token_ids = sequence.token_ids
        held = self._held.pop(sequence, None)
        if held is None:
            found = self.pool.find(sequence.block_hashes((len(token_ids) - 1) // BLOCK_SIZE))
            self.pool.share(found)
            held = Held(found, token_ids)
        self._held[sequence] = held
        held.agree(token_ids)
        missing = blocks_for(len(token_ids) + count - 1) - len(held.block_table)
        while self.pool.num_free < missing:
            other = next((each for each in self._held if each not in keep), None)
            if other is None:
                return False
            self.forget(other)
        held.block_table += self.pool.allocate(max(0, missing))
        return True

    def _catch_up(
        self,
        sequences: SequenceOf[Sequence],
        lengths: dict[Sequence, int],
        proposals: dict[Sequence, Proposal],
    ) -> list[Sequence]:
        """Read what the draft has not read yet, as much as a step has time for.

        Those it has read to the end get their first token, and are returned.
        """
        chosen, pieces = [], []
        left = self._pacer.prefill_work(max(1, len(sequences)))
        for sequence in sequences:
            held = self._held[sequence]
            start = len(held.tokens)
            pending = sequence.token_ids[start:]
            if len(pending) > _SHORT:
                pending = pending[: tokens_for(max(0.0, left), start)]
                left -= work(start, len(pending))
            if pending:
                chosen.append(sequence)
                pieces.append(self._next(sequence, pending))
        return self._advance(chosen, pieces, lengths, proposals)

    def _next(self, sequence: Sequence, tokens: SequenceOf[int]) -> Piece:
        """A piece of tokens that follow those held; logits are wanted after the last one known."""
        held = self._held[sequence]
        wanted = int(len(held.tokens) + len(tokens) >= len(sequence.token_ids))
        return Piece(tokens, len(held.tokens), held.block_table, wanted)

    def _advance(
        self,
        sequences: SequenceOf[Sequence],
        pieces: SequenceOf[Piece],
        lengths: dict[Sequence, int],
        proposals: dict[Sequence, Proposal],
    ) -> list[Sequence]:
        """Compute pieces and append to the proposals; the sequences that gained a token."""
        if not pieces:
            return []
        num_best = [self._sampler.num_best(each, lengths[each]) for each in sequences]
        started = time.perf_counter()
        logits = self._runner.compute(pieces, num_best)
        self._note(pieces, time.perf_counter() - started)
        ready = []
        for sequence, piece in zip(sequences, pieces, strict=True):
            self._take_in(sequence, piece)
            if piece.num_logits:
                ready.append(sequence)
        places = [len(each.token_ids) + len(proposals[each].tokens) for each in ready]
        choices = self._sampler.sample(logits, range(len(ready)), ready, places)
        gained = []
        for sequence, choice in zip(ready, choices, strict=True):
            if not isinstance(choice, EngineError) and choice.token_id < self._vocab_size:
                proposals[sequence].tokens.append(choice.token_id)
                proposals[sequence].kinds.append(0)
                gained.append(sequence)
        return gained

    def _take_in(self, sequence: Sequence, piece: Piece) -> None:
        """Note what was computed, and let others find full blocks that will not change again."""
        held = self._held[sequence]
        held.tokens += piece.token_ids
        held.num_sure = min(len(held.tokens), len(sequence.token_ids))
        filled = min(held.num_sure, len(sequence.token_ids) - 1) // BLOCK_SIZE
        if filled > held.num_published:
            hashes = sequence.block_hashes(filled)
            for index in range(held.num_published, filled):
                self.pool.publish(held.block_table[index], hashes[index])
            held.num_published = filled

    def _note(self, pieces: SequenceOf[Piece], seconds: float) -> None:
        rows = sum(len(piece.token_ids) for piece in pieces if len(piece.token_ids) <= _SHORT)
        reading = [piece for piece in pieces if len(piece.token_ids) > _SHORT]
        self._pacer.note(
            rows, sum(work(piece.start, len(piece.token_ids)) for piece in reading), seconds
        )


@contextmanager
def load_draft(model: Model, config: EngineConfig) -> Iterator[Model | None]:
    """The draft model of a configuration, if it has one; open as long as its weights are read.

    Raises ConfigurationError when it does not generate text or has another vocabulary.
    """
    from lepton.models.loader import load_model

    chosen = config.draft_model
    if chosen is None:
        yield None
        return
    owned = isinstance(chosen, (str, Path))
    draft = load_model(chosen) if isinstance(chosen, (str, Path)) else chosen
    try:
        check_vocabulary(model, draft)
        yield draft
    finally:
        if owned:
            draft.close()


def check_vocabulary(model: Model, draft: Model) -> None:
    """Raise ConfigurationError unless both models' token ids mean the same."""
    mine, other = model.tokenizer, draft.tokenizer
    if mine.vocab_size != other.vocab_size:
        raise ConfigurationError(
            f"{draft.name} has a vocabulary of {other.vocab_size} tokens and cannot draft for "
            f"{model.name}, which has {mine.vocab_size}: choose a draft model of the same family"
        )
    for token in range(mine.vocab_size):
        if mine.token_bytes(token) != other.token_bytes(token):
            raise ConfigurationError(
                f"token {token} is {mine.token_text(token)!r} for {model.name} and "
                f"{other.token_text(token)!r} for {draft.name}, which cannot draft for it: choose "
                "a draft model of the same family"
            )
