"""The step loop: schedule, run, postprocess."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence as SequenceOf
from itertools import accumulate, compress
from typing import TYPE_CHECKING

from lepton.engine.block_pool import BlockPool
from lepton.engine.cache_plan import build_executor
from lepton.engine.config import EngineConfig
from lepton.engine.logprobs import token_logprob
from lepton.engine.outputs import EngineStats, FinishReason, OutputDelta, TokenLogprob
from lepton.engine.runner import ModelRunner
from lepton.engine.sampler import Choice, Sampler
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.scheduler import Chunk, Scheduler
from lepton.engine.sequence import Request, Sequence
from lepton.engine.text import TextStream
from lepton.errors import EngineError, LeptonError, RequestError
from lepton.models.executors.base import Float32Array

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
        """Build the executor; ConfigurationError when no context fits in memory."""
        self.model = model
        self.config = config
        self.executor, self.context_length = build_executor(model, config)
        self.pool = BlockPool(self.executor.num_blocks)
        self.scheduler = Scheduler(
            self.pool,
            max_sequences=config.max_sequences,
            max_step_tokens=config.max_step_tokens,
            max_logit_rows=max(
                config.max_sequences + 1, _LOGIT_BYTES // (4 * self.executor.vocab_size)
            ),
        )
        self._runner = ModelRunner(self.executor)
        self._sampler = Sampler(getattr(self.executor, "pool", None))
        self._requests: dict[str, Request] = {}
        self.num_queued = 0
        """Requests with a waiting sequence when the last step began, and newer ones."""
        self._steps = 0
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._last_step_seconds = 0.0

    def make_request(
        self,
        request_id: str,
        prompt_token_ids: SequenceOf[int],
        params: SamplingParams,
        *,
        echo_logprobs: bool = False,
    ) -> Request:
        """Check a request against the model; RequestError when it can never be answered."""
        prompt = self.check_tokens(prompt_token_ids, param="prompt")
        request = Request(
            request_id=request_id,
            prompt_token_ids=prompt,
            params=params,
            seed=secrets.randbits(64) if params.seed is None else params.seed,
            max_tokens=self._max_tokens(len(prompt), params.max_tokens),
            stop_token_ids=frozenset(params.stop_token_ids)
            | (frozenset() if params.ignore_eos else self.model.tokenizer.eos_token_ids),
            echo_logprobs=echo_logprobs,
        )
        for index in range(params.n):
            detokenizer = self.model.tokenizer.detokenizer(continuation=True)
            text = TextStream(detokenizer, params.stop)
            request.sequences.append(Sequence(request, index, text))
        return request

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
        self._requests[request.request_id] = request
        self.num_queued += 1
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
    def has_work(self) -> bool:
        """Whether a step would compute something."""
        return bool(self._requests)

    def step(self) -> list[OutputDelta]:
        """Compute one ragged batch and return what each completion gained."""
        started = time.perf_counter()
        chunks = self.scheduler.schedule()
        self.num_queued = len({sequence.request for sequence in self.scheduler.waiting})
        if not chunks:
            return []
        now = time.monotonic()
        for chunk in chunks:
            if chunk.sequence.request.scheduled is None:
                chunk.sequence.request.scheduled = now
        try:
            logits = self._runner.run(chunks, [self._num_best(chunk) for chunk in chunks])
            choices = self._choose(chunks, logits)
        except Exception as error:
            logger.exception("a step of %d sequences failed", len(chunks))
            return self._fail_running(error)
        deltas: list[OutputDelta] = []
        first_row = 0
        for chunk, choice in zip(chunks, choices, strict=True):
            if chunk.sequence.finish_reason is None:
                rows = range(first_row, first_row + chunk.num_logits)
                deltas += self._postprocess(chunk, logits, rows, choice)
            first_row += chunk.num_logits
        self._steps += 1
        self._last_step_seconds = time.perf_counter() - started
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
        )

    def close(self) -> None:
        """Release the executor."""
        self.executor.close()

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

    def _num_best(self, chunk: Chunk) -> int:
        """How many of the largest logits of each of a chunk's rows are needed; 0 for all."""
        alone = chunk.samples and chunk.num_logits == 1
        return self._sampler.num_best(chunk.sequence) if alone else 0

    def _choose(
        self, chunks: SequenceOf[Chunk], logits: Float32Array
    ) -> list[Choice | EngineError | None]:
        """The token that each chunk's last logits lead to; None where none is to be sampled."""
        samples = [chunk.samples for chunk in chunks]
        last_rows = [end - 1 for end in accumulate(chunk.num_logits for chunk in chunks)]
        sequences = [chunk.sequence for chunk in compress(chunks, samples)]
        found = iter(self._sampler.sample(logits, [*compress(last_rows, samples)], sequences))
        return [next(found) if sampled else None for sampled in samples]

    def _postprocess(
        self, chunk: Chunk, logits: Float32Array, rows: range, choice: Choice | EngineError | None
    ) -> list[OutputDelta]:
        """Take in what a step found for one chunk; whatever fails here ends this request only."""
        sequence = chunk.sequence
        request = sequence.request
        sequence.num_computed = chunk.end
        try:
            self._collect_prompt_logprobs(chunk, logits, rows)
            if sequence.num_pending > 0:
                return []
            if sequence.index == 0 and sequence.num_generated == 0:
                self._prompt_tokens += sequence.num_prompt_tokens
            if choice is None:
                return [self._delta(sequence, finish_reason="length")]
            if isinstance(choice, EngineError):
                raise choice
            return [self._advance(sequence, choice)]
        except Exception as error:
            logger.exception("request %s failed", request.request_id)
            return self._end(request, "error", _describe(error))

    def _collect_prompt_logprobs(self, chunk: Chunk, logits: Float32Array, rows: range) -> None:
        sequence = chunk.sequence
        if sequence.prompt_logprobs is None or not sequence.wants_prompt_logprobs:
            return
        first = chunk.end - chunk.num_logits + 1
        tokens = sequence.token_ids[first : min(chunk.end + 1, sequence.num_prompt_tokens)]
        count = sequence.request.params.logprobs or 0
        found = self._sampler.logprobs(logits, list(rows)[: len(tokens)], tokens, count)
        sequence.prompt_logprobs += [
            token_logprob(token, row, self.model.tokenizer)
            for token, row in zip(tokens, found, strict=True)
        ]

    def _advance(self, sequence: Sequence, choice: Choice) -> OutputDelta:
        """Append the next token, settle its text and see whether the sequence ends."""
        token_id, row_logprobs = choice
        logprobs = None
        if row_logprobs is not None:
            logprobs = (token_logprob(token_id, row_logprobs, self.model.tokenizer),)
        sequence.token_ids.append(token_id)
        if sequence.request.first_token is None:
            sequence.request.first_token = time.monotonic()
        self._generated_tokens += 1
        text, finish_reason = self._settle(sequence, token_id)
        return self._delta(sequence, text, (token_id,), logprobs, finish_reason)

    def _settle(self, sequence: Sequence, token_id: int) -> tuple[str, FinishReason | None]:
        """The text a new token settles, and why the sequence ends with it, if it does."""
        request, stream = sequence.request, sequence.text
        if token_id in request.stop_token_ids:
            return stream.flush(), "stop"
        num_generated = sequence.num_generated
        text = stream.add(token_id, match_stops=num_generated > request.params.min_tokens)
        if stream.stopped:
            return text, "stop"
        if num_generated >= request.max_tokens:
            return text + stream.flush(), "length"
        return text, None

    def _delta(
        self,
        sequence: Sequence,
        text: str = "",
        token_ids: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprob, ...] | None = None,
        finish_reason: FinishReason | None = None,
        error: str | None = None,
    ) -> OutputDelta:
        """A delta; with a finish_reason it also ends the sequence."""
        request = sequence.request
        if finish_reason is not None:
            sequence.finish_reason = finish_reason
            self.scheduler.remove(sequence)
        prompt_logprobs = None
        if sequence.prompt_logprobs is not None and not sequence.wants_prompt_logprobs:
            prompt_logprobs = tuple(sequence.prompt_logprobs)
            sequence.prompt_logprobs = None
        finished = finish_reason is not None and request.finished
        if finished:
            self._requests.pop(request.request_id, None)
            if not self._requests:
                self.num_queued = 0  # No step will come to count again.
        return OutputDelta(
            request_id=request.request_id,
            index=sequence.index,
            text=text,
            token_ids=token_ids,
            logprobs=logprobs,
            finish_reason=finish_reason,
            usage=request.usage if finished else None,
            prompt_logprobs=prompt_logprobs,
            error=error,
            timings=request.timings(time.monotonic()) if finished else None,
        )

    def _end(
        self, request: Request, reason: FinishReason, error: str | None = None
    ) -> list[OutputDelta]:
        """End the unfinished sequences of a request, with the text they still hold."""
        return [
            self._delta(sequence, _flush(sequence), finish_reason=reason, error=error)
            for sequence in request.sequences
            if sequence.finish_reason is None
        ]

    def _fail_running(self, error: Exception) -> list[OutputDelta]:
        """End every request that had a part in a failed step: its cache cannot be trusted."""
        requests = dict.fromkeys(sequence.request for sequence in self.scheduler.running)
        return [
            delta for request in requests for delta in self._end(request, "error", _describe(error))
        ]


def _flush(sequence: Sequence) -> str:
    """Text held back, as far as the detokenizer still works."""
    try:
        return sequence.text.flush()
    except Exception:
        logger.exception("request %s: text could not be flushed", sequence.request.request_id)
        return ""


def _describe(error: Exception) -> str:
    """What a reader may know: our own messages in full, of others the kind only."""
    if isinstance(error, LeptonError):
        return str(error)
    return f"internal error ({type(error).__name__})"
