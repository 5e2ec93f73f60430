"""An engine whose every move is scripted, and one real server for the whole session."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest

from lepton.engine import (
    AsyncEngine,
    EngineConfig,
    EngineStats,
    OutputDelta,
    RequestOptions,
    SamplingParams,
    Usage,
)
from lepton.models.loader import load_model
from lepton.server import ServerSettings, bind, create_app
from lepton.server.run import DrainingServer

Step = OutputDelta | Exception | asyncio.Event
Script = Callable[[Sequence[int], SamplingParams], list[Step]]


class ByteTokenizer:
    """One token per byte of UTF-8."""

    vocab_size = 256
    special_token_ids: frozenset[int] = frozenset()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def exceeds(self, text: str, most: int) -> bool:
        return len(text) > 8 * most

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def token_text(self, token_id: int) -> str:
        return chr(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])


class PlainTemplate:
    def render(self, messages: Any, *, add_generation_prompt: bool = True) -> str:
        return "".join(f"{each['role']}: {each['content']}\n" for each in messages)


def say(text: str, reason: str = "stop") -> Script:
    """Each completion is ``text``, a delta per character, then ``reason``."""

    def script(prompt: Sequence[int], params: SamplingParams) -> list[Step]:
        steps: list[Step] = []
        for index in range(params.n):
            steps += [
                OutputDelta("", index, each, (ord(each) % 256,), produced=(1.0 + place,))
                for place, each in enumerate(text)
            ]
            usage = Usage(len(prompt), params.n * len(text)) if index == params.n - 1 else None
            steps.append(OutputDelta("", index, "", (), finish_reason=reason, usage=usage))  # type: ignore[arg-type]
        return steps

    return script


class ScriptedStream:
    """Gives one delta at a time; an event among the steps has to be set before the next."""

    def __init__(self, request_id: str, steps: list[Step], filled: asyncio.Event) -> None:
        self.request_id = request_id
        self._steps = deque(steps)
        self._filled = filled
        self._waiting: asyncio.Task[None] | None = None
        self.finished = False
        self.closed = False
        filled.set()

    def take(self) -> list[OutputDelta]:
        if not self._steps or (self._waiting and not self._waiting.done()):
            return []
        step = self._steps.popleft()
        if isinstance(step, Exception):
            raise step
        if isinstance(step, asyncio.Event):
            self._waiting = asyncio.ensure_future(self._wait(step))
            return []
        asyncio.get_running_loop().call_soon(self._filled.set)
        self.finished = step.usage is not None
        return [step]

    async def _wait(self, gate: asyncio.Event) -> None:
        await gate.wait()
        asyncio.get_running_loop().call_soon(self._filled.set)

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class ScriptedEngine:
    """Looks like an AsyncEngine; `script` decides what comes out."""

    script: Script = field(default_factory=lambda: say("abc"))
    refusal: Exception | None = None
    refuse_after: int = 0
    alive: bool = True
    silent_seconds: float = 0.0
    context_length: int = 512
    streams: list[ScriptedStream] = field(default_factory=list)
    params: list[SamplingParams] = field(default_factory=list)
    options: list[RequestOptions] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    asked_for_room: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokenizer = ByteTokenizer()
        self.model = SimpleNamespace(
            name="scripted", tokenizer=self.tokenizer, chat_template=PlainTemplate()
        )

    def generate(
        self,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str,
        echo_logprobs: bool = False,
        filled: asyncio.Event,
        options: RequestOptions,
    ) -> ScriptedStream:
        self.check_room(options.tenant, options.priority)
        self.params.append(params)
        self.options.append(options)
        self.streams.append(
            ScriptedStream(request_id, self.script(prompt_token_ids, params), filled)
        )
        return self.streams[-1]

    def check_room(self, tenant: str, priority: int) -> None:
        self.asked_for_room.append((tenant, priority))
        if self.refusal and len(self.streams) >= self.refuse_after:
            raise self.refusal

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    def seconds_since_tick(self) -> float:
        return self.silent_seconds

    def stats(self) -> EngineStats:
        return EngineStats(1, 2, 3, 4, 5, self.context_length, 6, 7, 8, 9, 10, 0.5)

    async def drain(self, grace: float) -> None: ...

    def start(self) -> None: ...

    def shutdown(self) -> None:
        self.alive = False


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def script() -> Callable[..., Script]:
    """`say`, for tests that give the engine another text."""
    return say


@pytest.fixture
async def connect(engine: ScriptedEngine) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Makes a client of an application over the scripted engine, without a network."""
    clients: list[httpx.AsyncClient] = []

    def make(**settings: Any) -> httpx.AsyncClient:
        app = create_app(engine, ServerSettings(**settings))  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://localhost"))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def scripted_port(engine: ScriptedEngine) -> Iterator[Callable[..., int]]:
    """Serves the scripted engine over a real socket; gives the port."""
    running: list[tuple[DrainingServer, threading.Thread]] = []

    def start(**settings: Any) -> int:
        chosen = ServerSettings(port=0, drain_seconds=1, **settings)
        listener = bind(chosen)
        ready = threading.Event()
        app = create_app(engine, chosen)  # type: ignore[arg-type]
        server = DrainingServer(app, listener, lambda _: ready.set())
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        running.append((server, thread))
        assert ready.wait(60)
        return int(listener.getsockname()[1])

    yield start
    for server, thread in running:
        server.drain()
        thread.join(60)
        assert not thread.is_alive()


@dataclass
class RealServer:
    """A server with the real model, and what tests ask it."""

    url: str
    engine: AsyncEngine
    model: str

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120, **options
        )

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120
        )


@pytest.fixture(scope="session")
def server(smollm2_path: Path) -> Iterator[RealServer]:
    """uvicorn in a thread over SmolLM2 on the native executor."""
    settings = ServerSettings(port=0, model_name="smollm2")
    listener = bind(settings)
    config = EngineConfig(context_length=1024, max_sequences=16, cache_memory=256 * 2**20)
    engine = AsyncEngine(load_model(smollm2_path), config)
    ready = threading.Event()
    urls: list[str] = []

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    process = DrainingServer(create_app(engine, settings), listener, on_ready)
    thread = threading.Thread(target=lambda: process.run(sockets=[listener]))
    thread.start()
    assert ready.wait(60)
    yield RealServer(urls[0], engine, "smollm2")
    process.drain()
    thread.join(60)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def client(server: RealServer) -> Iterator[openai.OpenAI]:
    with server.client() as client:
        yield client
