"""``/v1/classify`` under load: many clients, each with one short text a request.

The server is a process of its own. The clients are one process that speaks HTTP/1.1 over
connections that stay open; what it takes of the processors is reported, as the server lacks it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.serving.servers import Server, lepton
from lepton.models.encoder_loader import load_encoder

_QUESTIONS = Path("examples/customer_questions_test.csv")
_TOKENIZER = "all-minilm-l6-v2"
_WARM_UP_SECONDS = 2.0


@dataclass
class Load:
    """What the clients saw."""

    seconds: float
    client_seconds: float
    """Processor time of the clients."""
    latencies: list[float] = field(default_factory=list)
    failed: int = 0


def add_command(commands: Any) -> None:
    """Add the command's arguments."""
    command = commands.add_parser("classify", help="a trained run over HTTP: texts a second")
    command.add_argument("run", help="run to serve, such as runs/intents")
    command.add_argument("--clients", type=int, default=32)
    command.add_argument("--seconds", type=float, default=10.0, help="length of a measurement (10)")
    command.add_argument("--tokens", type=int, default=40, help="length of the long texts (40)")


def run_classify(arguments: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Measure questions as people write them, then texts of exactly so many tokens."""
    questions = _questions()
    with load_encoder(_TOKENIZER) as model:
        tokens = model.tokenizer.tokens
        long = _filled(questions, arguments.tokens, lambda text: len(tokens([text])[0]))
        mean = float(np.mean([len(each) for each in tokens(questions)]))
    tell(f"{'texts':<22} {'texts/s':>8} {'p50 ms':>7} {'p99 ms':>7} {'failed':>6} "
         f"{'server cpu':>10} {'client cpu':>10}")  # fmt: skip
    with lepton(Path(arguments.run), name="classify") as server:
        for title, texts in (
            (f"questions, {mean:.0f} tokens", questions),
            (f"{arguments.tokens} tokens", long),
        ):
            tell(_row(title, server, texts, arguments))


def _row(title: str, server: Server, texts: list[str], arguments: argparse.Namespace) -> str:
    run_load(server.port, texts, arguments.clients, _WARM_UP_SECONDS)
    before = server.processor_seconds()
    load = run_load(server.port, texts, arguments.clients, arguments.seconds)
    used = (server.processor_seconds() - before) / load.seconds
    p50, p99 = np.percentile(load.latencies, [50, 99]) * 1000
    return (
        f"{title:<22} {len(load.latencies) / load.seconds:>8.0f} {p50:>7.1f} {p99:>7.1f} "
        f"{load.failed:>6} {used:>10.2f} {load.client_seconds / load.seconds:>10.2f}"
    )


def run_load(port: int, texts: list[str], clients: int, seconds: float) -> Load:
    """Send one text a request from every client, the next as soon as the answer is there."""
    requests = itertools.cycle([_request(text) for text in texts])
    cpu, start = time.process_time(), time.perf_counter()
    load = asyncio.run(_run(port, requests, clients, start + seconds))
    load.client_seconds = time.process_time() - cpu
    load.seconds = time.perf_counter() - start
    return load


async def _run(port: int, requests: Iterator[bytes], clients: int, until: float) -> Load:
    load = Load(0.0, 0.0)
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(clients):
        make = lambda: _Client(requests, until, load, loop.create_future())  # noqa: E731
        connections.append((await loop.create_connection(make, "127.0.0.1", port))[1])
    await asyncio.gather(*(client.done for client in connections))
    return load


class _Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(
        self, requests: Iterator[bytes], until: float, load: Load, done: asyncio.Future[None]
    ) -> None:
        self.done = done
        self._requests, self._until, self._load = requests, until, load
        self._received = b""
        self._sent = 0.0
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _content_length(head):
            return
        now = time.perf_counter()
        if head.startswith(b"HTTP/1.1 200"):
            self._load.latencies.append(now - self._sent)
        else:
            self._load.failed += 1
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.failed += error is not None
        self.done.set_result(None)

    def _ask(self) -> None:
        self._received = b""
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].split(maxsplit=1)[0])


def _request(text: str) -> bytes:
    content = json.dumps({"input": text}).encode()
    head = (
        "POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def _questions() -> list[str]:
    """The hand-written questions in Latin letters, which the English encoder knows."""
    with _QUESTIONS.open(encoding="utf-8-sig", newline="") as stream:
        texts = [row["question"] for row in csv.DictReader(stream)]
    return [text for text in texts if text.isascii()]


def _filled(texts: list[str], tokens: int, count: Callable[[str], int]) -> list[str]:
    """Texts of at most ``tokens`` tokens and hardly fewer, words of several texts each."""
    found = []
    words = itertools.cycle(word for text in texts for word in text.split())
    for _ in texts:
        text = next(words)
        while count(longer := f"{text} {next(words)}") <= tokens:
            text = longer
        found.append(text)
    return found
