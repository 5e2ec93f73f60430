"""Which tokens of which sequences the next step computes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from lepton.engine.block_pool import BlockPool, blocks_for
from lepton.engine.sequence import Sequence
from lepton.models.executors.base import BLOCK_SIZE


@dataclass(frozen=True)
class Chunk:
    """Consecutive tokens of one sequence that a step computes."""

    sequence: Sequence
    start: int
    """Position of the first token."""
    count: int
    num_logits: int
    """How many of the last rows need logits."""

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + self.count

    @property
    def samples(self) -> bool:
        """Whether its last logits lead to a new token."""
        sequence = self.sequence
        return self.end == len(sequence.token_ids) and sequence.request.max_tokens > 0


class Scheduler:
    """Continuous batching: first in, first out, decoding before reading prompts.

    Running sequences are older than waiting ones, and both lists are ordered by arrival. A sequence
    is admitted when blocks for all its tokens are free, and takes one more whenever it fills its
    last. When none is left, the youngest is preempted: it gives its blocks back, keeps its tokens,
    and is computed again later. The oldest can always go on, because no sequence may outgrow the
    pool. Mutated by the step loop only.
    """

    def __init__(
        self, pool: BlockPool, *, max_sequences: int, max_step_tokens: int, max_logit_rows: int
    ) -> None:
        self.pool = pool
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.num_preemptions = 0
        self.num_cached_tokens = 0
        self._max_sequences = max_sequences
        self._max_step_tokens = max_step_tokens
        self._max_logit_rows = max_logit_rows
        self._arrivals = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self._arrivals += 1
        sequence.arrival = self._arrivals
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence and free its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._release(sequence)

    def preempt_all(self) -> None:
        """Give all blocks back; every sequence will be computed again."""
        while self.running:
            self._preempt(self.running[-1])

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step; empty when nothing can or need be computed."""
        step = _StepBudget(self._max_step_tokens, self._max_logit_rows)
        preempted = self.num_preemptions
        for sequence in list(self.running):
            decodes = sequence.num_pending == 1 and (
                self.num_preemptions == preempted or sequence in self.running
            )
            if decodes and self._extend(sequence):
                step.take(sequence)
        for sequence in self.running:
            if sequence.num_pending > 1:
                step.take(sequence)
        while step.tokens > 0 and (admitted := self._admit()) is not None:
            step.take(admitted)
        return step.chunks

    def check_integrity(self) -> None:
        """Raise AssertionError when an invariant is broken; used by tests."""
        self.pool.check_integrity(sequence.block_table for sequence in self.running)
        arrivals = [sequence.arrival for sequence in [*self.running, *self.waiting]]
        if arrivals != sorted(arrivals):
            raise AssertionError(f"sequences are out of order: {arrivals}")
        for sequence in self.waiting:
            if sequence.block_table or sequence.num_computed:
                raise AssertionError(f"waiting sequence {sequence.arrival} holds blocks")
        for sequence in self.running:
            if sequence.num_computed > len(sequence.block_table) * BLOCK_SIZE:
                raise AssertionError(f"sequence {sequence.arrival} has outgrown its blocks")

    def _extend(self, sequence: Sequence) -> bool:
        """Get the block the next token needs; False when the sequence itself had to yield."""
        missing = blocks_for(len(sequence.token_ids)) - len(sequence.block_table)
        if missing <= 0:
            return True
        while self.pool.num_free < missing:
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        sequence.block_table += self.pool.allocate(missing)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        self.waiting.appendleft(sequence)
        self.num_preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.block_table)
        sequence.block_table = []
        sequence.num_computed = 0

    def _admit(self) -> Sequence | None:
        """Move the first waiting sequence to the running ones, if there is room for it."""
        if not self.waiting or len(self.running) >= self._max_sequences:
            return None
        sequence = self.waiting[0]
        siblings = [other for other in self.running if other.request is sequence.request]
        shared = max((sibling.shareable_blocks for sibling in siblings), key=len, default=[])
        if siblings and len(shared) < sequence.num_shareable_blocks:
            return None  # A sibling is reading the prompt; its blocks are worth waiting for.
        fresh = blocks_for(len(sequence.token_ids)) - len(shared)
        spare = len(self.running)  # A block of growth for each, or they would soon be preempted.
        if self.pool.num_free < fresh + spare:
            return None
        self.waiting.popleft()
        self.running.append(sequence)
        self.pool.share(shared)
        sequence.block_table = [*shared, *self.pool.allocate(fresh)]
        sequence.num_computed = len(shared) * BLOCK_SIZE
        self.num_cached_tokens += sequence.num_computed
        if sequence.num_generated == 0:
            sequence.num_cached_tokens = sequence.num_computed
        return sequence


class _StepBudget:
    """The chunks chosen so far and the tokens and rows of logits that are left."""

    def __init__(self, tokens: int, logit_rows: int) -> None:
        self.tokens = tokens
        self.logit_rows = logit_rows
        self.chunks: list[Chunk] = []

    def take(self, sequence: Sequence) -> None:
        """Add the next tokens of a sequence, as many as the budget allows."""
        start = sequence.num_computed
        count = min(sequence.num_pending, self.tokens)
        if sequence.prompt_logprobs is not None and sequence.wants_prompt_logprobs:
            first_logits = max(start, len(sequence.prompt_logprobs) - 1)
            count = min(count, first_logits + self.logit_rows - start)
            num_logits = max(0, start + count - first_logits)
        else:
            num_logits = int(count == sequence.num_pending)
        if count > 0:
            self.tokens -= count
            self.logit_rows -= num_logits
            self.chunks.append(Chunk(sequence, start, count, num_logits))
