"""Embeddings and generation in one server: what each keeps of what it does alone."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from bench.closed_loop import closed_loop, post_bytes
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


@dataclass(frozen=True)
class Phase:
    """What a phase brought about."""

    texts: int
    tokens: int
    errors: int
    waits: list[float]
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
    phases: list[list[Phase]] = []
    with lepton(catalogue.pull(GENERATOR), "--encoder", ENCODER) as server:
        asyncio.run(_phase(server, True, True, seconds=_WARM_SECONDS))
        phases += [_round(server) for _ in range(rounds)]
    result = Together(
        texts_alone=statistics.median(each[0].texts for each in phases) / _SECONDS,
        texts_together=statistics.median(each[2].texts for each in phases) / _SECONDS,
        tokens_alone=statistics.median(each[1].tokens for each in phases) / _SECONDS,
        tokens_together=statistics.median(each[2].tokens for each in phases) / _SECONDS,
        longest_wait=max(max(each[2].waits) for each in phases),
        errors=sum(phase.errors for each in phases for phase in each),
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


def _round(server: Server) -> list[Phase]:
    return [asyncio.run(_phase(server, *what, seconds=_SECONDS)) for what in _PHASES]


async def _phase(server: Server, embed: bool, decode: bool, *, seconds: float) -> Phase:
    """Clients that ask again as soon as they are answered, for so long."""
    before = await asyncio.to_thread(_generated, server)
    texts = next(each for each in workloads() if each.name == "sentences").texts
    bodies = ({"model": ENCODER, "input": text, "encoding_format": "base64"} for text in texts)
    requests = [post_bytes("/v1/embeddings", body) for body in bodies]
    until = time.perf_counter() + seconds
    streams = [_decode(server, number, until) for number in range(STREAMS if decode else 0)]
    load, failed = await asyncio.gather(
        closed_loop(server.port, requests, CLIENTS if embed else 0, until),
        asyncio.gather(*streams),
    )
    tokens = await asyncio.to_thread(_generated, server) - before
    return Phase(len(load.latencies), tokens, load.failed + sum(failed), load.latencies)


def _generated(server: Server) -> int:
    """Tokens that the server has generated since it began."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        text = answer.read().decode()
    found = re.search(r"^lepton_generation_tokens_total\S* (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def _decode(server: Server, number: int, until: float) -> int:
    """Stream one completion after another; the number of those that failed."""
    failed = 0
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        prompt = f"Letter {number}: Dear customer, thank you for your question about"
        writer.write(post_bytes("/v1/completions", server.completion(prompt, _TOKENS)))
        ended = False
        try:
            async with asyncio.timeout(_TIMEOUT):
                while not ended and time.perf_counter() < until:
                    line = await reader.readline()
                    ended = not line or line.startswith(b"data: [DONE]")
                    failed += not line or b'"error"' in line[:20]
        except TimeoutError:
            failed += 1
        writer.close()
    return failed
