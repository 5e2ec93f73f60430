"""What one step computes, and how much of it there may be."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from lepton.engine.sequence import Sequence
from lepton.engine.step_pacer import StepPacer, tokens_for, work


@dataclass(frozen=True)
class Chunk:
    """Consecutive tokens of one sequence that a step computes, and guesses at those after them."""

    sequence: Sequence
    start: int
    """Position of the first token."""
    count: int
    """Tokens of the sequence."""
    num_logits: int
    """How many of the last rows need logits."""
    draft: tuple[int, ...] = ()
    """Tokens that may come next, to be verified; each takes a row after those of the sequence."""

    @property
    def end(self) -> int:
        """Position after the last token of the sequence."""
        return self.start + self.count

    @property
    def num_rows(self) -> int:
        """Rows of the batch."""
        return self.count + len(self.draft)

    @property
    def samples(self) -> bool:
        """Whether its last logits lead to new tokens."""
        sequence = self.sequence
        return self.end == len(sequence.token_ids) and sequence.request.max_tokens > 0


class StepPlan:
    """The chunks chosen for a step, and the rows, rows of logits and time that are left."""

    def __init__(self, tokens: int, logit_rows: int, pacer: StepPacer, crowd: float) -> None:
        self.tokens = tokens
        self.logit_rows = logit_rows
        self.crowd = crowd
        """Prompts for each stream; see ``StepPacer.prefill_work``."""
        self.chunks: list[Chunk] = []
        self.num_decode_rows = 0
        self.prefill_work = 0.0
        self._pacer = pacer
        self._work_left: float | None = None
        self._reserved_tokens = 0
        self._reserved_work = 0.0

    @property
    def full(self) -> bool:
        """Whether no more prompt fits."""
        return self.tokens <= self._reserved_tokens or self._left() < 1

    def decode(self, sequence: Sequence, draft: SequenceOf[int]) -> None:
        """Add the one pending token of a sequence and its draft."""
        rows = 1 + len(draft)
        self.tokens -= rows
        self.logit_rows -= rows
        self.num_decode_rows += rows
        chunk = Chunk(sequence, sequence.num_computed, 1, rows, tuple(draft))
        self.chunks.append(chunk)

    def reserve(self, sequence: Sequence) -> None:
        """Keep up to half of what is left for a prompt that ``use_reserve`` will add."""
        needed = work(sequence.num_computed, sequence.num_pending)
        left = self._left()
        self._reserved_tokens = min(sequence.num_pending, (self.tokens + 1) // 2)
        self._reserved_work = min(needed, left / 2)

    def use_reserve(self, sequence: Sequence) -> None:
        """Add the prompt for which something was kept."""
        self._reserved_tokens, self._reserved_work = 0, 0.0
        self.prefill(sequence)

    def prefill(self, sequence: Sequence) -> None:
        """Add the next tokens of a prompt, as many as may be."""
        if self.full:
            return
        start = sequence.num_computed
        count = min(sequence.num_pending, self.tokens - self._reserved_tokens)
        left = self._left()
        count = min(count, max(1, tokens_for(left, start)))
        if sequence.prompt_logprobs is not None and sequence.wants_prompt_logprobs:
            first_logits = max(start, len(sequence.prompt_logprobs) - 1)
            count = min(count, first_logits + self.logit_rows - start)
            num_logits = max(0, start + count - first_logits)
        else:
            num_logits = int(count == sequence.num_pending)
        if count > 0 and num_logits <= self.logit_rows:
            self.tokens -= count
            self.logit_rows -= num_logits
            spent = work(start, count)
            self.prefill_work += spent
            self._work_left = left + self._reserved_work - spent
            self.chunks.append(Chunk(sequence, start, count, num_logits))

    def _left(self) -> float:
        """Work on prompts that the step has time for, fixed when the first prompt asks."""
        if self._work_left is None:
            self._work_left = self._pacer.prefill_work(self.num_decode_rows, self.crowd)
        return self._work_left - self._reserved_work
