"""The step loop: schedule, run, postprocess."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Sequence as SequenceOf
from itertools import accumulate
from typing import TYPE_CHECKING

from lepton.engine.block_hashes import BlockHashes
from lepton.engine.block_pool import BlockPool
from lepton.engine.block_spill import open_spill
from lepton.engine.cache_plan import build_executors
from lepton.engine.config import EngineConfig
from lepton.engine.draft_model import load_draft
from lepton.engine.drafting import build_speculator
from lepton.engine.outputs import EngineStats, FinishReason, OutputDelta
from lepton.engine.progress import Gain, advance, collect_prompt_logprobs
from lepton.engine.queue_pace import QueuePace
from lepton.engine.request_options import RequestOptions
from lepton.engine.runner import ModelRunner
from lepton.engine.sampler import Choice, Sampler, num_accepted
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.scheduler import Scheduler
from lepton.engine.sequence import Request, Sequence
from lepton.engine.step_pacer import StepPacer
from lepton.engine.step_plan import Chunk
from lepton.engine.text import TextStream
from lepton.engine.unadmitted import Unadmitted
from lepton.errors import EngineError, RequestError, describe
from lepton.models.executors.base import BLOCK_SIZE, Float32Array

if TYPE_CHECKING:
    from lepton.models.loader import Model

logger = logging.getLogger(__name__)

_LOGIT_BYTES = 64 * 2**20
"""Memory for the logits of one step, as far as prompts that want them all are concerned."""


class EngineCore:
    """Requests, cache and executor of one model. Not thread-safe: one caller at a time.

    Only ``make_request`` may be called from any thread: it reads what never changes.
    """

    def __init__(self, model: Model, config: EngineConfig) -> None:
        """Build the executors.

        Raises ConfigurationError when no context fits in memory or a draft model has another
        vocabulary.
        """
        self.model = model
        self.config = config
        with load_draft(model, config) as draft:
            built = build_executors(model, config, draft)
            self.executor, self.context_length = built.main, built.context_length
            self.pacer = StepPacer(config.step_seconds)
            self.speculator = build_speculator(config, built, draft, self.pacer)
        self.spill = open_spill(config, self.executor)
        self.pool = BlockPool(self.executor.num_blocks, self.spill)
        self.scheduler = self._new_scheduler()
        self.queue_pace = QueuePace()
        self._scheduled = 0.0
        """When requests were last admitted or left waiting, on the clock of `time.monotonic`."""
        self._left_waiting = False
        self._runner = ModelRunner(self.executor)
        self._sampler = Sampler(getattr(self.executor, "pool", None))
        self._requests: dict[str, Request] = {}
        self._timed: dict[str, Request] = {}
        """Those that have a timeout."""
        self._steps = 0
        self._prefill_budget = 0
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._last_step_seconds = 0.0
        self._drafts = 0
        self._draft_tokens = 0
        self._accepted_tokens = 0
        self._timeouts = 0
        self._failed_steps = 0
        self._restarts = 0
        self._failures_in_row = 0
        """Requests that failed since one was last given a token."""
        self._last_failure = -math.inf

    def _new_scheduler(self) -> Scheduler:
        config = self.config
        return Scheduler(
            self.pool,
            max_sequences=config.max_sequences,
            max_step_tokens=config.max_step_tokens,
            max_logit_rows=max(
                config.max_sequences + 1, _LOGIT_BYTES // (4 * self.executor.vocab_size)
            ),
            pacer=self.pacer,
        )

    def make_request(
        self,
        request_id: str,
        prompt_token_ids: SequenceOf[int],
        params: SamplingParams,
        *,
        echo_logprobs: bool = False,
        options: RequestOptions | None = None,
    ) -> Request:
        """Check a request against the model; RequestError when it can never be answered."""
        prompt, max_tokens = self.check_request(prompt_token_ids, params)
        options = options or RequestOptions()
        hashes = BlockHashes(options.salt if self.config.prefix_cache else secrets.token_hex())
        hashes.upto(len(prompt) // BLOCK_SIZE, prompt)
        request = Request(
            request_id=request_id,
            prompt_token_ids=prompt,
            params=params,
            seed=secrets.randbits(64) if params.seed is None else params.seed,
            max_tokens=max_tokens,
            stop_token_ids=frozenset(params.stop_token_ids)
            | (frozenset() if params.ignore_eos else self.model.tokenizer.eos_token_ids),
            echo_logprobs=echo_logprobs,
            options=options,
            hashes=hashes,
        )
        for index in range(params.n):
            detokenizer = self.model.tokenizer.detokenizer(continuation=True)
            text = TextStream(detokenizer, params.stop)
            request.sequences.append(Sequence(request, index, text))
        return request

    def check_request(
        self, prompt_token_ids: SequenceOf[int], params: SamplingParams
    ) -> tuple[tuple[int, ...], int]:
        """A prompt's ids, and how many may follow; RequestError when it can never be answered."""
        prompt = self.check_tokens(prompt_token_ids, param="prompt")
        return prompt, self._max_tokens(len(prompt), params.max_tokens)

    def check_tokens(self, token_ids: SequenceOf[int], *, param: str) -> tuple[int, ...]:
        """The ids as ints; RequestError when empty, outside the vocabulary or too many."""
        tokens = tuple(int(token) for token in token_ids)
        if not tokens:
            raise RequestError("the prompt has no tokens", param=param)
        if min(tokens) < 0 or max(tokens) >= self.executor.vocab_size:
            raise RequestError(
                f"token ids must be from 0 to {self.executor.vocab_size - 1}", param=param
            )
        if len(tokens) > self.context_length:
            raise RequestError(
                f"the prompt has {len(tokens)} tokens, the context length is "
                f"{self.context_length}: shorten the prompt",
                param=param,
                code="context_length_exceeded",
            )
        return tokens

    def add(self, request: Request) -> None:
        """Queue a request that ``make_request`` has checked."""
        self._left_waiting &= self.num_queued > 0
        self._requests[request.request_id] = request
        if request.options.timeout is not None or request.options.queue_timeout is not None:
            self._timed[request.request_id] = request
        for sequence in request.sequences:
            self.scheduler.add(sequence)

    def abort(self, request_id: str) -> list[OutputDelta]:
        """End a request as cancelled; its last deltas. Unknown ids are ignored."""
        request = self._requests.get(request_id)
        return [] if request is None else self._end(request, "cancelled")

    def abort_all(
        self, reason: FinishReason = "cancelled", error: str | None = None
    ) -> list[OutputDelta]:
        """End every request."""
        return [
            delta
            for request in list(self._requests.values())
            for delta in self._end(request, reason, error)
        ]

    @property
    def num_queued(self) -> int:
        """Requests that have not been admitted yet."""
        return len(self.scheduler.unadmitted)

    def unadmitted(self) -> Unadmitted:
        """Those requests by priority and tenant, as of now; any thread may ask."""
        return self.scheduler.unadmitted.copy()

    @property
    def free_places(self) -> int:
        """Requests that would be admitted at once: none while others are left waiting."""
        if self._left_waiting and self.num_queued:  # The first may be of a queue that has ended.
            return 0
        return max(0, self.config.max_sequences - len(self.scheduler.running))

    @property
    def has_work(self) -> bool:
        """Whether there is anything to compute, or to bring back before."""
        return bool(self._requests)

    def step(self) -> list[OutputDelta]:
        """Compute one ragged batch and return what each completion gained."""
        deltas = self._end_overdue()
        scheduler = self.scheduler
        oldest, admitted = scheduler.waiting.oldest_arrival, scheduler.num_admitted
        waiting = oldest is not None and oldest < self._scheduled
        drafting = time.perf_counter()
        drafts = {} if self.speculator is None else self.speculator.drafts(scheduler.running)
        started = time.perf_counter()
        plan = scheduler.schedule(drafts)
        self._scheduled = time.monotonic()
        self._left_waiting = len(scheduler.unadmitted) > 0
        self.queue_pace.note(
            scheduler.num_admitted - admitted, waiting, scheduler.waiting.oldest_arrival
        )
        if not plan.chunks:
            return deltas
        failed = self._failed_steps
        deltas += self._compute(plan.chunks)
        self._steps += 1
        now = time.perf_counter()
        self._last_step_seconds = now - drafting
        if self._failed_steps == failed:
            seconds = now - started - scheduler.spill_seconds
            self.pacer.note(plan.num_decode_rows, plan.prefill_work, seconds)
        self._prefill_budget = min(
            self.config.max_step_tokens,
            self.pacer.prefill_tokens(len(scheduler.running), plan.crowd),
        )
        return deltas

    def restart(self, error: str) -> list[OutputDelta]:
        """End every request and begin with an empty cache, when the state cannot be trusted."""
        old, evictions = self.scheduler, self.pool.num_evictions
        if self.spill is not None:
            self.spill.clear()
        self.pool = BlockPool(self.executor.num_blocks, self.spill)
        self.pool.num_evictions = evictions
        self.scheduler = self._new_scheduler()
        self.scheduler.continue_counts(old)
        if self.speculator is not None:
            self.speculator.clear()
        deltas = self.abort_all("error", error)
        self._restarts += 1
        return deltas

    def logits(self, token_ids: SequenceOf[int]) -> Float32Array:
        """Logits [len(token_ids), vocab] after each token, sharing nothing with any request."""
        tokens = self.check_tokens(token_ids, param="token_ids")
        self.scheduler.preempt_all()
        return self._runner.logits(tokens, self.pool, self.config.max_step_tokens)

    def stats(self) -> EngineStats:
        """Counters and gauges; plain reads, so that any thread may ask."""
        return EngineStats(
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting),
            used_blocks=self.pool.num_blocks - self.pool.num_free,
            total_blocks=self.pool.num_blocks,
            cache_bytes=self.pool.num_blocks * self.executor.bytes_per_block,
            context_length=self.context_length,
            steps=self._steps,
            prompt_tokens_total=self._prompt_tokens,
            generation_tokens_total=self._generated_tokens,
            cached_tokens_total=self.scheduler.num_cached_tokens,
            preemptions_total=self.scheduler.num_preemptions,
            last_step_seconds=self._last_step_seconds,
            cached_blocks=self.pool.num_cached,
            cache_queries_total=self.scheduler.num_looked_up_tokens,
            cache_evictions_total=self.pool.num_evictions,
            spilled_blocks=0 if self.spill is None else self.spill.num_blocks,
            spill_hits_total=0 if self.spill is None else self.spill.num_hits,
            drafts_total=self._drafts,
            draft_tokens_total=self._draft_tokens,
            accepted_tokens_total=self._accepted_tokens,
            timeouts_total=self._timeouts,
            failed_steps_total=self._failed_steps,
            restarts_total=self._restarts,
            failures_in_row=self._failures_in_row,
            seconds_since_failure=time.monotonic() - self._last_failure,
            prefill_budget=self._prefill_budget,
            oldest_wait_seconds=self.queue_pace.oldest_seconds if self.num_queued else 0.0,
            estimated_wait_seconds=self.queue_pace.wait(self.num_queued),
        )

    def close(self) -> None:
        """Release the executors and the spill's file."""
        if self.spill is not None:
            self.spill.close()
        self.executor.close()
        if self.speculator is not None:
            self.speculator.close()

    def _max_tokens(self, num_prompt_tokens: int, asked: int | None) -> int:
        room = self.context_length - num_prompt_tokens
        if asked is None and room == 0:
            raise RequestError(
                f"the prompt fills the context of {self.context_length} tokens and leaves no room "
                "for a completion: shorten the prompt",
                param="prompt",
                code="context_length_exceeded",
            )
        if asked is not None and asked > room:
            raise RequestError(
                f"{num_prompt_tokens} tokens of prompt and max_tokens {asked} together exceed the "
                f"context length of {self.context_length}: at most {room} tokens can be generated",
                param="max_tokens",
                code="context_length_exceeded",
            )
        return room if asked is None else asked

    def _compute(self, chunks: SequenceOf[Chunk]) -> list[OutputDelta]:
        """What completions gain by some chunks.

        When they fail together they are computed one by one, which gives the same, so that only
        requests end that cannot be computed.
        """
        try:
            logits = self._runner.run(chunks, [self._num_best(chunk) for chunk in chunks])
            choices = self._choose(chunks, logits)
        except Exception as error:
            self._failed_steps += 1
            logger.exception("a step of %d sequences failed", len(chunks))
            for chunk in chunks:
                chunk.sequence.sampling = None  # It may have taken note of a draft.
            if len(chunks) == 1:
                self._note_failure()
                return self._end(chunks[0].sequence.request, "error", describe(error))
            return [
                delta
                for chunk in chunks
                if chunk.sequence.finish_reason is None
                for delta in self._compute([chunk])
            ]
        deltas: list[OutputDelta] = []
        first_row = 0
        for chunk, chosen in zip(chunks, choices, strict=True):
            if chunk.sequence.finish_reason is None:
                rows = range(first_row, first_row + chunk.num_logits)
                deltas += self._postprocess(chunk, logits, rows, chosen)
            first_row += chunk.num_logits
        return deltas

    def _num_best(self, chunk: Chunk) -> int:
        """How many of the largest logits of each of a chunk's rows are needed; 0 for all."""
        only_samples = chunk.samples and chunk.num_logits == 1 + len(chunk.draft)
        return self._sampler.num_best(chunk.sequence, chunk.num_logits) if only_samples else 0

    def _choose(
        self, chunks: SequenceOf[Chunk], logits: Float32Array
    ) -> list[list[Choice | EngineError]]:
        """The tokens that each chunk's last logits lead to, none where none is to be sampled.

        With a draft they are those of it that are right, and one more.
        """
        ends = list(accumulate(chunk.num_logits for chunk in chunks))
        single = [place for place, chunk in enumerate(chunks) if chunk.samples and not chunk.draft]
        found = self._sampler.sample(
            logits,
            [ends[place] - 1 for place in single],
            [chunks[place].sequence for place in single],
        )
        choices: list[list[Choice | EngineError]] = [[] for _ in chunks]
        for place, choice in zip(single, found, strict=True):
            choices[place] = [choice]
        for place, chunk in enumerate(chunks):
            if chunk.draft:
                rows = range(ends[place] - chunk.num_logits, ends[place])
                choices[place] = self._sampler.verify(logits, rows, chunk.sequence, chunk.draft)
        return choices

    def _postprocess(
        self,
        chunk: Chunk,
        logits: Float32Array,
        rows: range,
        choices: list[Choice | EngineError],
    ) -> list[OutputDelta]:
        """Take in what a step found for one chunk; whatever fails here ends this request only."""
        sequence = chunk.sequence
        request = sequence.request
        sequence.num_computed = chunk.end
        try:
            collect_prompt_logprobs(chunk, logits, rows, self._sampler, self.model.tokenizer)
            self.scheduler.publish(sequence)
            if sequence.num_pending > 0:
                return []
            if sequence.index == 0 and sequence.num_generated == 0:
                self._prompt_tokens += sequence.num_prompt_tokens
            self._count_draft(request, chunk.draft, choices)
            gain = self._gain(sequence, choices) if choices else Gain(finish_reason="length")
            self._failures_in_row = 0
            return [self._delta(sequence, gain)]
        except Exception as error:
            logger.exception("request %s failed", request.request_id)
            self._note_failure()
            return self._end(request, "error", describe(error))

    def _note_failure(self) -> None:
        self._failures_in_row += 1
        self._last_failure = time.monotonic()

    def _gain(self, sequence: Sequence, choices: list[Choice | EngineError]) -> Gain:
        """What a sequence gains by chosen tokens; all but the last are in its cache already."""
        gain = Gain()
        for place, choice in enumerate(choices):
            if isinstance(choice, EngineError):
                raise choice
            sequence.num_computed += place > 0
            advance(sequence, choice, gain, self.model.tokenizer)
            self._generated_tokens += 1
            if gain.finish_reason is not None:
                break
        return gain

    def _count_draft(
        self, request: Request, draft: SequenceOf[int], choices: list[Choice | EngineError]
    ) -> None:
        if draft:
            accepted = num_accepted(choices, draft)
            self._drafts += 1
            self._draft_tokens += len(draft)
            self._accepted_tokens += accepted
            request.num_draft_tokens += len(draft)
            request.num_accepted_tokens += accepted
            self.scheduler.shares.charge(request.options.tenant, 0, accepted)

    def _delta(self, sequence: Sequence, gain: Gain, error: str | None = None) -> OutputDelta:
        """A delta; with a finish_reason it also ends the sequence."""
        request = sequence.request
        if gain.finish_reason is not None:
            sequence.finish_reason = gain.finish_reason
            self.scheduler.remove(sequence, keep=self._keeps(request, gain.finish_reason))
            if self.speculator is not None:
                self.speculator.forget(sequence, trusted=gain.finish_reason != "error")
        prompt_logprobs = None
        if sequence.prompt_logprobs is not None and not sequence.wants_prompt_logprobs:
            prompt_logprobs = tuple(sequence.prompt_logprobs)
            sequence.prompt_logprobs = None
        finished = gain.finish_reason is not None and request.finished
        if finished:
            self._requests.pop(request.request_id, None)
            self._timed.pop(request.request_id, None)
        return OutputDelta(
            request_id=request.request_id,
            index=sequence.index,
            text=gain.text,
            token_ids=tuple(gain.token_ids),
            logprobs=tuple(gain.logprobs) if gain.logprobs else None,
            finish_reason=gain.finish_reason,
            usage=request.usage if finished else None,
            prompt_logprobs=prompt_logprobs,
            error=error,
            timings=request.timings(time.monotonic()) if finished else None,
            produced=(time.monotonic(),) if gain.token_ids else (),
        )

    def _keeps(self, request: Request, reason: FinishReason) -> bool:
        """Whether what a sequence has computed may be found by others after its end.

        Without a prefix cache only another completion of the same prompt could. Blocks that nobody
        can find are used again first, so that memory which was never needed stays untouched.
        """
        wanted = self.config.prefix_cache or len(request.sequences) > 1
        return wanted and reason != "error"

    def _end(
        self, request: Request, reason: FinishReason, error: str | None = None
    ) -> list[OutputDelta]:
        """End the unfinished sequences of a request, with the text they still hold."""
        return [
            self._delta(sequence, Gain(_flush(sequence), finish_reason=reason), error)
            for sequence in request.sequences
            if sequence.finish_reason is None
        ]

    def _end_overdue(self) -> list[OutputDelta]:
        """End the requests whose time is up."""
        now = time.monotonic()
        deltas = []
        for request in list(self._timed.values()):
            if (reason := request.overdue(now)) is not None:
                self._timeouts += 1
                deltas += self._end(request, "timeout", reason)
        return deltas


def _flush(sequence: Sequence) -> str:
    """Text held back, as far as the detokenizer still works."""
    try:
        return sequence.text.flush()
    except Exception:
        logger.exception("request %s: text could not be flushed", sequence.request.request_id)
        return ""
