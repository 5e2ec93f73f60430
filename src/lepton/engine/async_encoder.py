"""An encoder behind asyncio: requests that arrive together are computed together."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lepton.engine.encoder import EncoderEngine, cosines
from lepton.engine.encoder_inputs import (
    INPUTS,
    PAIRS,
    InputNames,
    TextInput,
    Window,
    distinct_texts,
)
from lepton.engine.encoder_job import PooledJob
from lepton.engine.encoder_limits import TokenAllowance, characters_of
from lepton.engine.encoder_types import EmbedOptions
from lepton.errors import EngineError, RequestError, UnavailableError
from lepton.models.executors.base import Float32Array

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderModel

logger = logging.getLogger(__name__)

_STEP_TOKENS = 1024
"""Tokens in one call of the executor. It bounds how long a request that has just arrived waits for
others, and is enough for products to be efficient."""
_QUEUE_TOKENS = 1_000_000
"""Tokens that may wait. A request is let in when they are fewer with it, or when it is no larger
than an equal share of them for each request; so a large one that waits keeps no small one out."""
_REQUEST_TOKENS = _QUEUE_TOKENS
"""Of one request; this and the next bound its memory."""
_REQUEST_VALUES = 16 * 1024 * 1024
"""Inputs of one request times the dimensions of their states, in float32."""
_INLINE_CHARACTERS = 4096
"""Longer inputs are tokenized in a thread."""
_STOP_SECONDS = 30.0
_CLOSING = "the encoder is shutting down"


@dataclass(frozen=True)
class Encoded:
    """The answer to a request, and what it cost."""

    values: Float32Array
    num_tokens: int


@dataclass
class _Request:
    job: PooledJob
    finish: Callable[[PooledJob], Float32Array]
    future: Future[Encoded]


class AsyncEncoder:
    """Runs jobs in a thread of its own; methods are called in an event loop.

    A step takes from every waiting request in turn, so that small ones pass by large ones.
    """

    def __init__(self, engine: EncoderEngine) -> None:
        self.engine = engine
        self.num_tokens_total = 0
        self.num_inputs_total = 0
        self.num_steps = 0
        self._step_began: float | None = None
        self._thread = threading.Thread(target=self._run, name="lepton-encoder", daemon=True)
        self._condition = threading.Condition()
        """Guards everything below."""
        self._requests: deque[_Request] = deque()
        self._waiting_tokens = 0
        self._stopping = False
        self._thread.start()

    @property
    def model(self) -> EncoderModel:
        """The loaded model."""
        return self.engine.model

    @property
    def alive(self) -> bool:
        """Whether the thread that computes is running."""
        return self._thread.is_alive()

    def seconds_in_step(self) -> float:
        """How long the present step has taken so far; 0 between steps."""
        began = self._step_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def waiting_tokens(self) -> int:
        """Tokens of requests that are not finished."""
        return self._waiting_tokens

    async def embed(self, inputs: Sequence[TextInput], options: EmbedOptions) -> Encoded:
        """Vectors [inputs, dimensions]; raises as ``EncoderEngine.embed``.

        Beside that, and as the other methods do, RequestError for more tokens or inputs than one
        request may have, CapacityError when too many are waiting already.
        """
        return await self._embed(inputs, options, INPUTS)

    async def classify(self, texts: Sequence[TextInput]) -> Encoded:
        """Probabilities [texts, labels]; raises as ``EncoderEngine.classify``."""
        return await self._compute(
            texts,
            len(texts),
            lambda allowance: self.engine.classify_job(texts, INPUTS, allowance),
            self.engine.chances,
        )

    async def score(self, pairs: Sequence[tuple[str, str]]) -> Encoded:
        """Scores [pairs]; raises as ``EncoderEngine.score``."""
        if self.model.task != "embed":
            return await self._compute(
                [text for pair in pairs for text in pair],
                len(pairs),
                lambda allowance: self.engine.score_job(pairs, PAIRS, allowance),
                self.engine.scores,
            )
        sides = []
        for side, prompt in enumerate(self.engine.retrieval_prompts):
            distinct = distinct_texts(pairs, side)
            options = EmbedOptions(prompt, normalize=True)
            encoded = await self._embed(distinct.texts, options, distinct.names)
            sides.append((encoded.values[distinct.rows], encoded.num_tokens))
        (first, first_tokens), (second, second_tokens) = sides
        return Encoded(cosines(first, second), first_tokens + second_tokens)

    def close(self) -> None:
        """Refuse what waits, end the thread and release the weights. May be called twice."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join(_STOP_SECONDS)
        if not self._thread.is_alive():
            self.engine.close()
            self.model.close()

    async def _embed(
        self, inputs: Sequence[TextInput], options: EmbedOptions, names: InputNames
    ) -> Encoded:
        return await self._compute(
            inputs,
            len(inputs),
            lambda allowance: self.engine.embed_job(inputs, options, names, allowance),
            lambda job: self.engine.vectors(job, options),
        )

    async def _compute(
        self,
        texts: Sequence[TextInput],
        count: int,
        prepare: Callable[[TokenAllowance], PooledJob],
        finish: Callable[[PooledJob], Float32Array],
    ) -> Encoded:
        self._check_open()
        self._check_count(count)
        allowance = self._allowance()
        if sum(map(characters_of, texts)) <= _INLINE_CHARACTERS:
            job = prepare(allowance)
        else:
            job = await asyncio.to_thread(prepare, allowance)
        if not job.pending:
            return Encoded(finish(job), 0)
        request = _Request(job, finish, Future())
        with self._condition:
            self._check_open()
            # Others may have been let in meanwhile.
            self._allowance().check(job.num_tokens)
            self._waiting_tokens += job.num_tokens
            self._requests.append(request)
            self._condition.notify()
        return await asyncio.wrap_future(request.future)

    def _allowance(self) -> TokenAllowance:
        free = _QUEUE_TOKENS - self._waiting_tokens
        share = _QUEUE_TOKENS // (len(self._requests) + 1)
        return TokenAllowance(_REQUEST_TOKENS, max(free, share), self._waiting_tokens)

    def _check_count(self, count: int) -> None:
        most = _REQUEST_VALUES // self.engine.hidden_size
        if count > most:
            raise RequestError(
                f"this request has {count:,} inputs; {self.model.name} takes at most {most:,} at "
                "once: divide it into several requests",
                code="too_many_inputs",
            )

    def _check_open(self) -> None:
        if self._stopping:
            raise UnavailableError(_CLOSING)

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            with self._condition:
                self._stopping = True
                waiting = list(self._requests)
            for request in waiting:
                self._end(request, UnavailableError(_CLOSING))

    def _serve(self) -> None:
        """Compute what is asked for until the end is near."""
        while True:
            with self._condition:
                while not (self._requests or self._stopping):
                    self._condition.wait()
                if self._stopping:
                    return
                self._drop_cancelled()
                parts = self._next_step()
            if parts:
                self._step_began = time.monotonic()
                self._step(parts)
                self._step_began = None

    def _drop_cancelled(self) -> None:
        for request in [each for each in self._requests if each.future.cancelled()]:
            self._forget(request)

    def _forget(self, request: _Request) -> None:
        self._requests.remove(request)
        self._waiting_tokens -= request.job.num_tokens

    def _next_step(self) -> list[tuple[_Request, list[Window]]]:
        """Windows of all requests, about the same number of tokens of each."""
        parts: list[tuple[_Request, list[Window]]] = []
        room = _STEP_TOKENS
        for left, request in zip(
            range(len(self._requests), 0, -1), list(self._requests), strict=True
        ):
            if room <= 0:
                break
            if request.job.pending:
                chunk = request.job.take(room // left)
                room -= sum(len(window.token_ids) for window in chunk)
                parts.append((request, chunk))
        # Whoever was served waits behind those who were not.
        self._requests.rotate(-len(parts))
        return parts

    def _step(self, parts: list[tuple[_Request, list[Window]]]) -> None:
        windows = [window for _, chunk in parts for window in chunk]
        try:
            states = self.engine.forward(windows, self.engine.pooling)
        except Exception as error:
            if len(parts) > 1:
                # One of them is to blame, and the others get their answers.
                for part in parts:
                    self._step([part])
                return
            logger.exception("a step of %d windows failed", len(windows))
            self._end(parts[0][0], EngineError(str(error)))
            return
        self.num_steps += 1
        self.num_tokens_total += sum(len(window.token_ids) for window in windows)
        first = 0
        for request, chunk in parts:
            request.job.add(chunk, states[first : first + len(chunk)])
            first += len(chunk)
            if not request.job.pending:
                self._end(request)

    def _end(self, request: _Request, error: Exception | None = None) -> None:
        with self._condition:
            self._forget(request)
        if not request.future.set_running_or_notify_cancel():
            return
        if error is not None:
            request.future.set_exception(error)
            return
        try:
            values = request.finish(request.job)
        except Exception as failure:
            request.future.set_exception(failure)
        else:
            self.num_inputs_total += request.job.count
            request.future.set_result(Encoded(values, request.job.num_tokens))
