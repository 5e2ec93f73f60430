"""One request and the sequences that answer it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lepton.engine.block_hashes import BlockHashes
from lepton.engine.outputs import FinishReason, RequestTimings, TokenLogprob, Usage
from lepton.engine.request_options import RequestOptions
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.text import TextStream

if TYPE_CHECKING:
    from lepton.engine.speculation import Guess
    from lepton.kernels._native import SamplingState


@dataclass(eq=False)
class Request:
    """A prompt, its settings and what all its sequences have in common."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    seed: int
    max_tokens: int
    """As asked for, or what the context leaves."""
    stop_token_ids: frozenset[int]
    """Every id that ends a sequence: end-of-sequence ids (unless ignored) and the request's own."""
    echo_logprobs: bool = False
    options: RequestOptions = field(default_factory=RequestOptions)
    hashes: BlockHashes = field(default_factory=lambda: BlockHashes(secrets.token_hex()))
    """Of the prompt's blocks. By default nobody else's are equal."""
    sequences: list[Sequence] = field(default_factory=list)
    arrived: float = field(default_factory=lambda: time.monotonic())
    scheduled: float | None = None
    """When it was first admitted."""
    first_token: float | None = None
    num_preemptions: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0

    @property
    def finished(self) -> bool:
        """Whether every sequence has ended."""
        return all(sequence.finish_reason for sequence in self.sequences)

    def overdue(self, now: float) -> str | None:
        """Why its time is up at ``now``, if it is."""
        options = self.options
        since = self.arrived if options.since is None else options.since
        limit = options.timeout
        if limit is not None and now - since >= limit:
            return f"the request was not finished within its timeout of {limit:g} seconds"
        limit = options.queue_timeout
        if limit is not None and self.scheduled is None and now - self.arrived >= limit:
            return f"the request waited longer than its queue_timeout of {limit:g} seconds"
        return None

    def timings(self, now: float) -> RequestTimings:
        """What it took, when it ends at ``now``."""
        return RequestTimings(
            arrived=self.arrived,
            scheduled=self.scheduled,
            first_token=self.first_token,
            finished=now,
            preemptions=self.num_preemptions,
            draft_tokens=self.num_draft_tokens,
            accepted_tokens=self.num_accepted_tokens,
        )

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(
            prompt_tokens=len(self.prompt_token_ids),
            completion_tokens=sum(sequence.num_generated for sequence in self.sequences),
            cached_tokens=self.sequences[0].num_cached_tokens,
        )


class Sequence:
    """One completion in the making: its tokens, its blocks and how far they are computed.

    Only the step loop touches it. Keys and values of positions 0 … num_computed - 1 are in the
    blocks of ``block_table``; the tokens after them are pending.
    """

    def __init__(self, request: Request, index: int, text: TextStream) -> None:
        self.request = request
        self.index = index
        self.text = text
        self.arrival = 0
        """Set when queued; grows, so that the largest is the youngest."""
        self.token_ids = list(request.prompt_token_ids)
        self.num_computed = 0
        self.admitted = False
        """Whether it has ever run."""
        self.num_cached_tokens = 0
        """Prompt tokens that were shared instead of computed, at the first admission."""
        self.block_table: list[int] = []
        self.hashes = request.hashes.copy()
        self.num_published = 0
        """Blocks of the table that others may find."""
        self.restoring = False
        """Whether its next blocks lie on disk and are read before anything is computed."""
        self.sampling: SamplingState | None = None
        """The sampler's own, made when it first sees the sequence."""
        self.guess: Guess | None = None
        """The speculator's own."""
        self.finish_reason: FinishReason | None = None
        self.prompt_logprobs: list[TokenLogprob | None] | None = None
        """Grows while the prompt is read, on the first sequence of an echoing request."""
        if request.echo_logprobs and index == 0:
            self.prompt_logprobs = [None]

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt_token_ids)

    @property
    def num_generated(self) -> int:
        """Tokens sampled so far."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_pending(self) -> int:
        """Known tokens that are not in the cache yet; 1 while decoding."""
        return len(self.token_ids) - self.num_computed

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether log probabilities of prompt tokens are still missing."""
        return (
            self.prompt_logprobs is not None and len(self.prompt_logprobs) < self.num_prompt_tokens
        )

    @property
    def num_reusable_tokens(self) -> int:
        """How many of its first tokens may come from the cache, the others' logits being wanted."""
        if self.prompt_logprobs is not None and self.wants_prompt_logprobs:
            return len(self.prompt_logprobs) - 1
        return len(self.token_ids) - 1

    def block_hashes(self, num_blocks: int) -> list[bytes]:
        """The hashes of its first blocks, which its tokens fill."""
        return self.hashes.upto(num_blocks, self.token_ids)
