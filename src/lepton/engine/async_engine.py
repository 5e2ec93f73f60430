"""The engine behind asyncio: a step loop in its own thread, a stream of deltas per request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from lepton.engine.config import EngineConfig
from lepton.engine.outputs import EngineStats, OutputDelta
from lepton.engine.sampling_params import SamplingParams

if TYPE_CHECKING:
    from lepton.models.loader import Model
    from lepton.models.tokenizer import Tokenizer


class RequestStream(AsyncIterator[OutputDelta]):
    """The deltas of one request. Closing, dropping or cancelling it aborts the request.

    Deltas that pile up unread are merged, so a slow reader costs no more than its whole text.
    """

    request_id: str

    async def __anext__(self) -> OutputDelta:
        """The next delta, merged with what came since the last call for the same index."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Abort the request unless it has finished."""
        raise NotImplementedError


class AsyncEngine:
    """Runs requests in a thread of its own; every method may be called from any thread."""

    def __init__(self, model: Model, config: EngineConfig | None = None) -> None:
        """Build the executor and its cache; ConfigurationError when no context fits in memory."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the step loop. Requests before it get UnavailableError."""

    def generate(
        self,
        prompt_token_ids: Sequence[int],
        params: SamplingParams | None = None,
        *,
        request_id: str | None = None,
        echo_logprobs: bool = False,
    ) -> RequestStream:
        """Queue a request now and return its deltas: ``async for delta in engine.generate(…)``.

        Called in a running event loop; not a coroutine. With ``echo_logprobs`` the first delta
        carries ``prompt_logprobs``.

        Raises, at the call: RequestError (empty prompt, id outside the vocabulary, longer than the
        context: code ``context_length_exceeded``), CapacityError (queue full, see
        ``retry_after``), UnavailableError (not started, draining, stopped).
        """
        raise NotImplementedError

    def abort(self, request_id: str) -> None:
        """End a request; its reader gets finish_reason ``cancelled``. Unknown ids are ignored."""

    def stats(self) -> EngineStats:
        """Counters and gauges as of the last step."""
        raise NotImplementedError

    def seconds_since_tick(self) -> float:
        """Seconds since the loop last went round; it does at least once a second when idle."""
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        """Whether the step loop is running."""
        raise NotImplementedError

    @property
    def model(self) -> Model: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""
        raise NotImplementedError

    async def drain(self, grace: float) -> None:
        """Refuse new requests, wait up to ``grace`` seconds for the others, then cancel them."""

    def shutdown(self) -> None:
        """Cancel what is left, stop the loop and release the executor. May be called twice."""
