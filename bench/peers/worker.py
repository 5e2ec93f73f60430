"""Inside a peer's process: load a model, then measure what standard input asks for.

    python -m bench.peers.worker ADAPTER

Requests and replies are JSON objects, one a line. This runs in the peer's own environment, so it
needs the standard library and the peer alone. Speed of decoding is the time of N + 1 tokens less
that of one token, after the prompts were read once: engines that keep the cache of prompts do not
read them again, and for the others the reading falls out of the difference.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TextIO

_FIRST_TOKEN, _LAST_TOKEN = 100, 40_000
_PREFILL_SECONDS = 0.5
_PREFILL_REPEATS = 5


class Adapter(Protocol):
    """A loaded model."""

    def __init__(self, path: str, **options: Any) -> None:
        """Load the model at ``path``."""

    def generate(self, prompts: list[list[int]], tokens: int) -> None:
        """Continue every prompt greedily by exactly so many tokens, all together."""

    def close(self) -> None:
        """Release the model."""


class Worker:
    """One adapter class and the model that it has loaded."""

    def __init__(self, adapter: type[Adapter], path: str, options: dict[str, Any]) -> None:
        self._new: Callable[[], Adapter] = partial(adapter, path, **options)
        self._random = random.Random(0)
        self._adapter = self._new()
        self._adapter.generate([self._prompt(8)], 4)

    def measure(self, workload: dict[str, Any]) -> float:
        """The value of one workload in its unit."""
        if workload["kind"] == "complete":
            return self._seconds(workload["prompts"], workload["tokens"])
        context, streams, tokens = (workload[name] for name in ("context", "streams", "tokens"))
        match workload["kind"]:
            case "decode":
                return self._decode(context, streams, tokens)
            case "prefill":
                return self._prefill(context)
            case "load":
                return self._load()
            case "memory":
                self._adapter.generate([self._prompt(context)], tokens)
                return 0.0
        raise ValueError(f"unknown workload {workload['kind']!r}")

    def _decode(self, context: int, streams: int, tokens: int) -> float:
        chosen = random.Random(context)
        prompts = [
            [chosen.randint(_FIRST_TOKEN, _LAST_TOKEN) for _ in range(context)]
            for _ in range(streams)
        ]
        self._adapter.generate(prompts, 1)
        first = self._seconds(prompts, 1)
        more = self._seconds(prompts, tokens + 1) - first
        if more <= 0:
            raise RuntimeError(f"{tokens + 1} tokens took no longer than one: {first:.2f} s")
        return streams * tokens / more

    def _prefill(self, tokens: int) -> float:
        """Prompts that were never seen before; short ones several times."""
        times = [self._seconds([self._prompt(tokens)], 1)]
        while sum(times) < _PREFILL_SECONDS and len(times) < _PREFILL_REPEATS:
            times.append(self._seconds([self._prompt(tokens)], 1))
        return tokens / statistics.median(times)

    def _load(self) -> float:
        self._adapter.close()
        start = time.perf_counter()
        self._adapter = self._new()
        self._adapter.generate([self._prompt(8)], 1)
        return time.perf_counter() - start

    def _prompt(self, tokens: int) -> list[int]:
        return [self._random.randint(_FIRST_TOKEN, _LAST_TOKEN) for _ in range(tokens)]

    def _seconds(self, prompts: list[list[int]], tokens: int) -> float:
        start = time.perf_counter()
        self._adapter.generate(prompts, tokens)
        return time.perf_counter() - start


def serve(requests: TextIO, replies: TextIO, adapter: type[Adapter]) -> None:
    """Answer every request; an error is an answer too."""
    worker: Worker | None = None
    for line in requests:
        request = json.loads(line)
        reply: dict[str, Any]
        try:
            if worker is None:
                worker = Worker(adapter, request["path"], request["options"])
                reply = {"value": 0.0}
            else:
                reply = {"value": worker.measure(request)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def main() -> None:
    """Keep standard output for replies; what libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module = importlib.import_module(f"bench.peers.{sys.argv[1]}_adapter")
    serve(sys.stdin, replies, module.Adapter)


if __name__ == "__main__":
    main()
