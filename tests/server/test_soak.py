"""Everything at once for a while: random requests, cancels, disconnects, slow readers, nonsense.

Some seconds long here; ``make soak`` takes twenty minutes (LEPTON_SOAK_SECONDS).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from lepton.engine import AsyncEngine, EngineConfig
from lepton.models.loader import load_model

SECONDS = float(os.environ.get("LEPTON_SOAK_SECONDS", "8"))
WORKERS = 12
GROWTH_BYTES = 32 * 2**20
TOPICS = ["cats", "rivers", "bread", "Rome", "chess", "rain", "music", "trains"]
EXPECTED = {200, 400, 404, 415, 429, 504}


@pytest.fixture
def engine(smollm2_path: Path, tmp_path: Path) -> Iterator[AsyncEngine]:
    """The real one, whose state is checked with every fourth step; its cache spills to disk."""
    config = EngineConfig(
        context_length=512,
        max_sequences=6,
        max_queue=8,
        cache_memory=14 * 2**20,
        cache_spill=tmp_path,
        cache_spill_bytes=16 * 2**20,
    )
    engine = AsyncEngine(load_model(smollm2_path), config)
    core, step = engine._core, engine._core.step
    calls = 0

    def checked_step() -> Any:
        nonlocal calls
        calls += 1
        deltas = step()
        if calls % 4 == 0:
            core.scheduler.check_integrity()
        return deltas

    core.step = checked_step
    yield engine
    engine.shutdown()


class Soak:
    """Workers that ask one server for whatever comes to their minds."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self.statuses: Counter[int] = Counter()
        self.done: Counter[str] = Counter()
        self.wrong: list[tuple[str, str]] = []
        self._answers: dict[str, str] = {}
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None)

    async def run(self, seconds: float) -> list[int]:
        """Resident bytes, taken now and then."""
        for topic in TOPICS:
            answer = await self._http.post("/v1/chat/completions", json=self._greedy(topic))
            self._answers[topic] = answer.json()["choices"][0]["message"]["content"]
        end = time.monotonic() + seconds
        workers = [asyncio.create_task(self._work(end)) for _ in range(WORKERS)]
        process, memory = psutil.Process(), []
        while time.monotonic() < end:
            await asyncio.sleep(seconds / 60)
            gc.collect()
            memory.append(process.memory_info().rss)
        await asyncio.gather(*workers)
        await self._http.aclose()
        return memory

    async def _work(self, end: float) -> None:
        deeds = [
            self._whole,
            self._stream,
            self._leave,
            self._dawdle,
            self._nonsense,
            self._urgent,
            self._flood,
        ]
        while time.monotonic() < end:
            deed = self._random.choice(deeds)
            await deed()
            self.done[deed.__name__] += 1

    def _greedy(self, topic: str, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"Write one sentence about {topic}."}]
        return {"model": "smollm2", "messages": messages, "temperature": 0, "max_tokens": 24} | more

    async def _post(self, body: Any, path: str = "/v1/chat/completions") -> httpx.Response:
        response = await self._http.post(path, json=body)
        self.statuses[response.status_code] += 1
        return response

    async def _whole(self) -> None:
        topic = self._random.choice(TOPICS)
        response = await self._post(self._greedy(topic))
        if response.status_code == 200:
            self._check(topic, response.json()["choices"][0]["message"]["content"])

    async def _stream(self) -> None:
        topic = self._random.choice(TOPICS)
        text, ended = "", False
        async with self._http.stream(
            "POST", "/v1/chat/completions", json=self._greedy(topic, stream=True)
        ) as response:
            self.statuses[response.status_code] += 1
            async for line in response.aiter_lines():
                ended = ended or line == "data: [DONE]"
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:]).get("choices", []):
                        text += choice["delta"].get("content") or ""
        if response.status_code == 200:
            assert ended
            self._check(topic, text)

    def _check(self, topic: str, text: str) -> None:
        if text != self._answers[topic]:
            self.wrong.append((self._answers[topic], text))

    async def _leave(self) -> None:
        """Go away at any moment."""
        body = self._greedy("ships", stream=self._random.random() < 0.5, max_tokens=200, n=2)
        try:
            async with asyncio.timeout(self._random.expovariate(8)):
                await self._http.post("/v1/chat/completions", json=body)
        except TimeoutError:
            pass

    async def _dawdle(self) -> None:
        """Read slowly, then perhaps not at all."""
        body = json.dumps(self._greedy("snow", stream=True, max_tokens=100, logprobs=True)).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1024)
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        for _ in range(self._random.randrange(20)):
            await reader.read(64)
            await asyncio.sleep(0.02)
        writer.close()

    async def _flood(self) -> None:
        """Send header fields without end; be refused."""
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        with suppress(ConnectionError):
            while True:  # It only ends so.
                writer.write(b"X: " + b"a" * 4000 + b"\r\n")
                await writer.drain()
        writer.close()

    async def _nonsense(self) -> None:
        body = self._random.choice(
            [
                {},
                [],
                self._greedy("x", temperature=9),
                self._greedy("x", max_tokens=10**9),
                self._greedy("word " * 2000),
                self._greedy("x", model="other"),
                {"model": "smollm2", "prompt": [10**9], "stream": True},
            ]
        )
        path = self._random.choice(["/v1/chat/completions", "/v1/completions", "/tokenize"])
        assert (await self._post(body, path)).status_code >= 400

    async def _urgent(self) -> None:
        """Push others aside, also in the cache."""
        body = self._greedy(
            f"fire number {self._random.randrange(40)}",
            priority=self._random.randint(-9, 9),
            timeout=self._random.expovariate(2) + 0.01,
        )
        await self._post(body | {"max_tokens": 60, "temperature": 1, "seed": 1})


@pytest.mark.timeout(SECONDS + 240)
async def test_nothing_leaks_and_nothing_breaks(scripted_port: Any, engine: AsyncEngine) -> None:
    port = scripted_port(model_name="smollm2", write_seconds=2, max_requests=32)
    soak = Soak(port, seed=1)
    memory = await soak.run(SECONDS)
    deadline = time.monotonic() + 60
    while engine.stats().running or engine.stats().waiting or len(engine._delivery):
        assert time.monotonic() < deadline, engine.stats()
        await asyncio.sleep(0.05)
    stats = engine.stats()
    engine._core.scheduler.check_integrity()
    spill = engine._core.spill
    while spill._unwritten:
        await asyncio.sleep(0.05)
    spill.check_integrity()
    assert SECONDS < 60 or stats.spilled_blocks, "nothing had to leave the cache"
    assert stats.used_blocks == 0, "every block is free again, or only cached"
    assert (stats.failed_steps_total, stats.restarts_total) == (0, 0)
    assert not soak.wrong, "answers do not depend on what else goes on"
    assert set(soak.statuses) <= EXPECTED, soak.statuses
    assert len(soak.done) == 7
    assert sum(soak.done.values()) > 10, soak.done
    warm = len(memory) // 2
    assert max(memory[warm:]) - max(memory[:warm]) < GROWTH_BYTES
