"""Decoding while another process spins on one processor."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.peers import PeerError, llama_tools
from lepton import LLM, SamplingParams
from lepton.telemetry.machine import inspect_machine

_TOKENS = 256
_PROMPT = list(range(100, 108))
_SETTLE_SECONDS = 0.5

Decode = Callable[[], Iterable[float]]


@dataclass(frozen=True)
class Disturbance:
    """Tokens per second alone and beside the other process, and the longest wait for a token, s."""

    model: str
    engine: str
    quiet: float
    disturbed: float
    longest_stall: float


def measure_neighbours(
    model: str, path: Path, rounds: int, tell: Callable[[str], object]
) -> list[Disturbance]:
    """Measure Lepton (its defaults) and, where it can be had, llama.cpp's server."""
    with LLM(path, max_sequences=1, context_length=2048, speculation="off") as llm:
        found = [_measure(model, "lepton", lambda: _lepton(llm), rounds)]
    try:
        llama_tools.prepare()
        with llama_tools.server(path, inspect_machine().threads) as server:
            found.append(
                _measure(model, "llama.cpp", lambda: server.completion(_PROMPT, _TOKENS), rounds)
            )
    except PeerError as error:
        tell(str(error))
    return found


def _measure(model: str, engine: str, decode: Decode, rounds: int) -> Disturbance:
    list(decode())
    quiet, disturbed = [], []
    for _ in range(rounds):
        quiet.append(_gaps(decode()))
        with _spinning_process():
            disturbed.append(_gaps(decode()))
    return Disturbance(
        model, engine, _speed(quiet), _speed(disturbed), max(max(gaps) for gaps in disturbed)
    )


def _lepton(llm: LLM) -> Iterator[float]:
    params = SamplingParams(temperature=0, max_tokens=_TOKENS, ignore_eos=True)
    for _ in llm.stream(_PROMPT, params):
        yield time.perf_counter()


def _gaps(arrivals: Iterable[float]) -> list[float]:
    times = list(arrivals)
    return [later - earlier for earlier, later in pairwise(times)]


def _speed(rounds: list[list[float]]) -> float:
    """Tokens per second over all rounds."""
    return sum(map(len, rounds)) / sum(map(sum, rounds))


@contextmanager
def _spinning_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(_SETTLE_SECONDS)
        yield
    finally:
        process.kill()
        process.wait()
