"""One API request in the engine: its prompts, merged into one stream of deltas."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise

from lepton.engine import (
    OutputDelta,
    RequestOptions,
    RequestStream,
    RequestTimings,
    SamplingParams,
    TokenLogprob,
    Usage,
)
from lepton.engine.outputs import FinishReason, PromptLogprobs
from lepton.errors import CapacityError, EngineError, LeptonError, UnavailableError
from lepton.server.context import ServerContext
from lepton.server.errors import ApiError, too_late
from lepton.server.record import RequestRecord
from lepton.telemetry.tracing import Stage

STAGES = ("queue", "prefill", "decode")

Batch = list[tuple[int, OutputDelta]]
"""Deltas that arrived together, each with the index of its choice; empty after a long silence."""


@dataclass
class Choice:
    """One completion, complete."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None


@dataclass
class _Progress:
    """What has come of one choice."""

    tokens: int = 0
    first: float = 0.0
    last: float = 0.0
    """When the engine had its first and its latest tokens."""
    ended: bool = False


class Generation:
    """The completions of all prompts of a request; choice = prompt number × n + completion.

    Made in the event loop. Raises what `AsyncEngine.generate` raises, with nothing left queued.
    """

    def __init__(
        self,
        context: ServerContext,
        record: RequestRecord,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        options: RequestOptions,
        *,
        echo_logprobs: bool = False,
    ) -> None:
        self._context = context
        self._record = record
        self._n = params.n
        self._timeout = options.timeout
        self.choices = len(prompts) * params.n
        self.prompt_logprobs: dict[int, PromptLogprobs] = {}
        self._prompt_tokens = sum(map(len, prompts))
        self._finished = record.started
        """When the engine ended the last completion."""
        self._usages: list[Usage] = []
        self._progress = [_Progress() for _ in range(self.choices)]
        self._filled = asyncio.Event()
        self._streams: list[RequestStream] = []
        identity = uuid.uuid4().hex
        try:
            for number, prompt in enumerate(prompts):
                stream = context.engine.generate(
                    prompt,
                    params,
                    request_id=f"{identity}-{number}",
                    echo_logprobs=echo_logprobs,
                    options=options,
                    filled=self._filled,
                )
                self._streams.append(stream)
        except BaseException:
            for stream in self._streams:
                context.engine.abort(stream.request_id)
            raise
        record.prompt_tokens = self._prompt_tokens
        context.metrics.request_started(params)

    @property
    def usage(self) -> Usage:
        """Token counts over all prompts, once everything has finished."""
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=sum(usage.completion_tokens for usage in self._usages),
            cached_tokens=sum(usage.cached_tokens for usage in self._usages),
        )

    async def collect(self) -> list[Choice]:
        """All choices, when they have finished."""
        choices = [Choice() for _ in range(self.choices)]
        texts: list[list[str]] = [[] for _ in range(self.choices)]
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for index, delta in batch:
                    texts[index].append(delta.text)
                    choices[index].logprobs.extend(delta.logprobs or ())
                    choices[index].finish_reason = delta.finish_reason
        for choice, parts in zip(choices, texts, strict=True):
            choice.text = "".join(parts)
        return choices

    async def batches(self) -> AsyncGenerator[Batch]:
        """Deltas as they come. Closing the iterator aborts what is not finished.

        Raises EngineError when a completion failed, UnavailableError when it was cancelled,
        CapacityError or ApiError 504 when its time was up before it had begun.
        """
        try:
            while not all(stream.finished for stream in self._streams):
                silent = not await self._wait()
                batch = self._take()
                if batch or silent:
                    yield batch
            self._context.metrics.request_done(
                self._prompt_tokens, self._generated, self._finished - self._record.started
            )
        except BaseException as error:
            self._end_all(_reason(error))
            raise
        finally:
            for stream in self._streams:
                await stream.aclose()
            self._record.completion_tokens = self._generated
            self._record.cached_tokens = self.usage.cached_tokens

    def _take(self) -> Batch:
        """What has come since the last call."""
        self._filled.clear()
        batch: Batch = []
        for number, stream in enumerate(self._streams):
            for delta in stream.take():
                self._take_note(number, delta)
                batch.append((number * self._n + delta.index, delta))
        return batch

    async def _wait(self) -> bool:
        """Wait until something may have come; False when the streams were silent for long."""
        try:
            async with asyncio.timeout(self._context.settings.heartbeat_seconds):
                return await self._filled.wait()
        except TimeoutError:
            return False

    def _take_note(self, number: int, delta: OutputDelta) -> None:
        if delta.timings:
            self._note_timings(delta.timings)
        if delta.finish_reason == "error":
            raise EngineError(delta.error or "the completion failed")
        unanswered = self._record.first_token_seconds is None and not delta.token_ids
        if delta.finish_reason == "timeout" and unanswered:
            raise self._too_late()
        if delta.finish_reason == "cancelled":
            raise UnavailableError("The request was ended because the server is shutting down.")
        if delta.prompt_logprobs is not None:
            self.prompt_logprobs[number] = delta.prompt_logprobs
        if delta.usage:
            self._usages.append(delta.usage)
        progress = self._progress[number * self._n + delta.index]
        if delta.token_ids:
            self._time_tokens(progress, delta)
        if delta.finish_reason:
            self._end(progress, delta.finish_reason)

    def _note_timings(self, timings: RequestTimings) -> None:
        self._finished = max(self._finished, timings.finished)
        self._context.metrics.stages(timings)
        self._record.stages += _stages(timings)
        self._record.preemptions += timings.preemptions
        self._record.draft_tokens += timings.draft_tokens
        self._record.accepted_tokens += timings.accepted_tokens

    def _end(self, progress: _Progress, reason: str) -> None:
        progress.ended = True
        self._record.finish_reasons.append(reason)
        self._context.metrics.finished(reason)
        if progress.tokens > 1:
            mean = (progress.last - progress.first) / (progress.tokens - 1)
            self._context.metrics.mean_gap(mean)

    def _end_all(self, reason: str) -> None:
        """Count the choices that will never be whole."""
        for progress in self._progress:
            if not progress.ended:
                self._end(progress, reason)

    def _too_late(self) -> LeptonError:
        """The error of a request that got no token in its time."""
        if self._timeout is not None and self._record.seconds() >= self._timeout:
            return too_late(self._timeout)
        return CapacityError(
            "The server is busy and the request has waited too long; try again later.",
            retry_after=self._context.engine.stats().estimated_wait_seconds,
        )

    def _time_tokens(self, progress: _Progress, delta: OutputDelta) -> None:
        """Note when tokens came: to the client the first ones, from the engine the others."""
        if self._record.first_token_seconds is None:
            seconds = self._record.seconds()
            self._record.first_token_seconds = round(seconds, 4)
            self._context.metrics.first_token(seconds)
        for moment in delta.produced:
            if progress.first:
                self._context.metrics.next_tokens(moment - progress.last)
            else:
                progress.first = moment
            progress.last = moment
        progress.tokens += len(delta.token_ids)

    @property
    def _generated(self) -> int:
        return sum(progress.tokens for progress in self._progress)


def _reason(error: BaseException) -> FinishReason:
    """Why completions end that an exception cuts short."""
    match error:
        case ApiError() | CapacityError():
            return "timeout"
        case UnavailableError():
            return "cancelled"
        case Exception():
            return "error"
        case _:  # The client has left: the task is cancelled, or the iterator closed.
            return "cancelled"


def _stages(timings: RequestTimings) -> list[Stage]:
    """The stages that a prompt and its completions went through."""
    places = (timings.arrived, timings.scheduled, timings.first_token)
    reached = [place for place in places if place is not None] + [timings.finished]
    return [
        Stage(name, start, end)
        for name, (start, end) in zip(STAGES, pairwise(reached), strict=False)
    ]
