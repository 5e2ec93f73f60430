"""What the engine hands back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled", "timeout", "error"]
"""``stop``: end-of-sequence, stop id or stop string; ``length``: max_tokens or the context is used
up; ``cancelled``: aborted; ``timeout``: the request's time was up, see the ``error`` text beside
it; ``error``: the request failed, see there too."""


@dataclass(frozen=True)
class Usage:
    """Token counts of a whole request; completion_tokens sums over its ``n`` completions."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Prompt tokens whose keys and values were already in the cache."""


@dataclass(frozen=True)
class RequestTimings:
    """When what happened to a request, by ``time.monotonic()``, and what it took.

    None: it did not come to that. Sampled tokens of all its completions count together.
    """

    arrived: float
    scheduled: float | None
    """Admitted for the first time: the end of the queue, the beginning of prefill."""
    first_token: float | None
    """The end of prefill, the beginning of decode."""
    finished: float
    preemptions: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    """Draft tokens that were right."""


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token and its log probability under the model's own logits."""

    token_id: int
    token: str
    bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob(TokenChance):
    """The token at one place, with the most likely ones there, best first."""

    top: Sequence[TokenChance] = ()


PromptLogprobs = tuple[TokenLogprob | None, ...]
"""One entry per prompt token; the first token has nothing before it and is None."""


@dataclass(frozen=True)
class CompletionOutput:
    """One completion of a prompt."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    """Every generated token, including the one that ended it."""
    finish_reason: FinishReason | None
    logprobs: tuple[TokenLogprob, ...] | None = None
    """One per token id."""
    error: str | None = None
    """What went wrong, when finish_reason is ``error`` or ``timeout``."""


@dataclass(frozen=True)
class RequestOutput:
    """A prompt and its finished completions, ordered by index."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    outputs: tuple[CompletionOutput, ...]
    usage: Usage


@dataclass(frozen=True)
class OutputDelta:
    """What one completion gained since its last delta."""

    request_id: str
    index: int
    text: str
    """New text only; joined over the deltas it is the completion's whole text."""
    token_ids: tuple[int, ...]
    """New tokens only. Their text may come later, while a character or stop string is forming."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """New entries only, one per token id."""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    """Set on the last delta of the whole request."""
    prompt_logprobs: PromptLogprobs | None = None
    """With ``echo_logprobs``: set once, on the first delta of the request."""
    error: str | None = None
    """What went wrong, when finish_reason is ``error`` or ``timeout``."""
    timings: RequestTimings | None = None
    """Set beside ``usage``."""
    produced: tuple[float, ...] = ()
    """When the engine had its tokens, by ``time.monotonic()``: one entry per step that gave any."""


@dataclass(frozen=True)
class EngineStats:
    """Counters and gauges at one moment. Totals count since the engine was made."""

    running: int
    """Completions being computed."""
    waiting: int
    """Completions not admitted yet (or preempted)."""
    used_blocks: int
    total_blocks: int
    cache_bytes: int
    """Memory reserved for the KV cache."""
    context_length: int
    steps: int
    prompt_tokens_total: int
    generation_tokens_total: int
    cached_tokens_total: int
    preemptions_total: int
    last_step_seconds: float
    cached_blocks: int = 0
    """Blocks that nobody holds and whose content may be found again; they count as free."""
    cache_queries_total: int = 0
    """Prompt tokens looked up in the prefix cache; ``cached_tokens_total`` of them were there."""
    cache_evictions_total: int = 0
    """Cached blocks that gave way to new content."""
    spilled_blocks: int = 0
    """Blocks that left the cache and are kept on disk."""
    spill_hits_total: int = 0
    """Blocks that were copied back from there."""
    drafts_total: int = 0
    """Speculations: runs of draft tokens verified in one step."""
    draft_tokens_total: int = 0
    accepted_tokens_total: int = 0
    """Draft tokens that were right."""
    timeouts_total: int = 0
    """Requests whose time was up."""
    failed_steps_total: int = 0
    restarts_total: int = 0
    """Times that the step loop was begun anew after a fault outside any request."""
    failures_in_row: int = 0
    """Requests that could not be computed, since one last could."""
    seconds_since_failure: float = math.inf
    """Since the last of them."""
    prefill_budget: int = 0
    """Prompt tokens that a step may read, as of the last one."""
    oldest_wait_seconds: float = 0.0
    """Age of the oldest request that has not been admitted yet."""
    estimated_wait_seconds: float = 0.0
    """How long a request that arrives now is likely to wait for its admission."""
