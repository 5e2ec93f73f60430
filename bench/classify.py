"""``/v1/classify`` under load: many clients, each with one short text a request.

The server is a process of its own. What the clients take of the processors is reported, as the
server lacks it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.closed_loop import Load, closed_loop, post_bytes
from bench.corpora import SHOP_TEST, shop_questions
from bench.serving.servers import Server, lepton
from lepton.models.encoder_loader import load_encoder

_TOKENIZER = "all-minilm-l6-v2"
_WARM_UP_SECONDS = 2.0


def add_command(commands: Any) -> None:
    """Add the command's arguments."""
    command = commands.add_parser("classify", help="a trained run over HTTP: texts a second")
    command.add_argument("run", help="run to serve, such as runs/intents")
    command.add_argument("--clients", type=int, default=32)
    command.add_argument("--seconds", type=float, default=10.0, help="length of a measurement (10)")
    command.add_argument("--tokens", type=int, default=40, help="length of the long texts (40)")


def run_classify(arguments: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Measure questions as people write them, then texts of exactly so many tokens."""
    # Those in Latin letters, which the English encoder knows.
    questions = [text for text in shop_questions(SHOP_TEST) if text.isascii()]
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
    requests = [post_bytes("/v1/classify", {"input": text}) for text in texts]

    def run(seconds: float) -> Load:
        until = time.perf_counter() + seconds
        return asyncio.run(closed_loop(server.port, requests, arguments.clients, until))

    run(_WARM_UP_SECONDS)
    before, clients, start = server.processor_seconds(), time.process_time(), time.perf_counter()
    load = run(arguments.seconds)
    seconds = time.perf_counter() - start
    served = (server.processor_seconds() - before) / seconds
    asked = (time.process_time() - clients) / seconds
    p50, p99 = np.percentile(load.latencies, [50, 99]) * 1000
    return (
        f"{title:<22} {len(load.latencies) / seconds:>8.0f} {p50:>7.1f} {p99:>7.1f} "
        f"{load.failed:>6} {served:>10.2f} {asked:>10.2f}"
    )


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
