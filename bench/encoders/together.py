"""Embeddings and generation in one server: what each keeps of what it does alone."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bench.encoders.texts import workloads
from bench.serving.servers import Server, lepton
from lepton.models import catalogue

GENERATOR, ENCODER = "smollm2-135m-instruct", "all-minilm-l6-v2"
CLIENTS, STREAMS = 32, 4
_SECONDS = 8.0
_WARM_SECONDS = 2.0
_PHASES = ((True, False), (False, True), (True, True))
"""Whether clients embed, and whether streams decode."""
_TOKENS = 200
_TIMEOUT = 30.0


@dataclass
class Load:
    """What a phase brought about."""

    texts: int = 0
    tokens: int = 0
    errors: int = 0
    waits: list[float] = field(default_factory=list)
    """Seconds of each embedding request."""


@dataclass(frozen=True)
class Together:
    """Medians of rounds, in texts and tokens a second; waits in seconds."""

    texts_alone: float
    texts_together: float
    tokens_alone: float
    tokens_together: float
    longest_wait: float
    errors: int


def measure_together(rounds: int, tell: Callable[[str], object]) -> Together:
    """Each round measures embeddings alone, streams alone, and both."""
    phases: list[list[Load]] = []
    with lepton(catalogue.pull(GENERATOR), "--encoder", ENCODER) as server:
        asyncio.run(_phase(server, True, True, seconds=_WARM_SECONDS))
        phases += [_round(server) for _ in range(rounds)]
    result = Together(
        texts_alone=statistics.median(each[0].texts for each in phases) / _SECONDS,
        texts_together=statistics.median(each[2].texts for each in phases) / _SECONDS,
        tokens_alone=statistics.median(each[1].tokens for each in phases) / _SECONDS,
        tokens_together=statistics.median(each[2].tokens for each in phases) / _SECONDS,
        longest_wait=max(max(each[2].waits) for each in phases),
        errors=sum(load.errors for each in phases for load in each),
    )
    tell(describe(result))
    return result


def describe(result: Together) -> str:
    """The result in a sentence."""
    return (
        f"{CLIENTS} clients embed {result.texts_alone:.0f} texts/s alone and "
        f"{result.texts_together:.0f} beside {STREAMS} streams "
        f"({100 * result.texts_together / result.texts_alone:.0f} %), which decode "
        f"{result.tokens_alone:.0f} tokens/s alone and {result.tokens_together:.0f} then "
        f"({100 * result.tokens_together / result.tokens_alone:.0f} %); the longest wait for a "
        f"vector was {1000 * result.longest_wait:.0f} ms, and {result.errors} requests failed"
    )


def _round(server: Server) -> list[Load]:
    return [asyncio.run(_phase(server, *what, seconds=_SECONDS)) for what in _PHASES]


async def _phase(server: Server, embed: bool, decode: bool, *, seconds: float) -> Load:
    """Clients that ask again as soon as they are answered, for so long."""
    load = Load()
    before = await asyncio.to_thread(_generated, server)
    until = time.perf_counter() + seconds
    texts = next(each for each in workloads() if each.name == "sentences").texts
    work: list[Awaitable[None]] = []
    if embed:
        work += [_embed(server, texts[n::CLIENTS], until, load) for n in range(CLIENTS)]
    if decode:
        work += [_decode(server, n, until, load) for n in range(STREAMS)]
    await asyncio.gather(*work)
    load.tokens = await asyncio.to_thread(_generated, server) - before
    return load


def _generated(server: Server) -> int:
    """Tokens that the server has generated since it began."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        text = answer.read().decode()
    found = re.search(r"^lepton_generation_tokens_total\S* (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def _embed(server: Server, texts: tuple[str, ...], until: float, load: Load) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    number = 0
    while time.perf_counter() < until:
        started = time.perf_counter()
        body = {"model": ENCODER, "input": texts[number % len(texts)], "encoding_format": "base64"}
        try:
            async with asyncio.timeout(_TIMEOUT):
                status = await _post(reader, writer, "/v1/embeddings", body)
        except TimeoutError:
            status = 0
        load.waits.append(time.perf_counter() - started)
        number += 1
        if status != 200:
            load.errors += 1
            break
        load.texts += time.perf_counter() < until
    writer.close()


async def _decode(server: Server, number: int, until: float, load: Load) -> None:
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        prompt = f"Letter {number}: Dear customer, thank you for your question about"
        _send(writer, "/v1/completions", server.completion(prompt, _TOKENS))
        ended = False
        try:
            async with asyncio.timeout(_TIMEOUT):
                while not ended and time.perf_counter() < until:
                    line = await reader.readline()
                    ended = not line or line.startswith(b"data: [DONE]")
                    load.errors += not line or b'"error"' in line[:20]
        except TimeoutError:
            load.errors += 1
        writer.close()


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: dict[str, Any]
) -> int:
    _send(writer, path, body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


def _send(writer: asyncio.StreamWriter, path: str, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
