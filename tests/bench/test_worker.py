"""The worker answers requests, and its answers follow from the times of an adapter."""

from __future__ import annotations

import io
import json

import pytest
from bench.peers import worker
from bench.workloads import WORKLOADS, Workload

SECONDS_PER_TOKEN = 0.5
SECONDS_PER_PROMPT_TOKEN = 0.01


class Clock:
    """Stands still unless an adapter works."""

    now = 0.0


class FakeAdapter:
    """Takes a fixed time for every token read and for every step."""

    def __init__(self, path: str, *, broken: bool = False) -> None:
        if broken:
            raise RuntimeError(f"cannot read {path}")
        Clock.now += 2.0

    def generate(self, prompts: list[list[int]], tokens: int) -> None:
        Clock.now += SECONDS_PER_PROMPT_TOKEN * sum(map(len, prompts))
        Clock.now += SECONDS_PER_TOKEN * (tokens - 1)

    def close(self) -> None:
        pass


def answers(*requests: dict) -> list[dict]:
    replies = io.StringIO()
    lines = io.StringIO("".join(json.dumps(request) + "\n" for request in requests))
    worker.serve(lines, replies, FakeAdapter)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> None:
    monkeypatch.setattr(worker.time, "perf_counter", lambda: Clock.now)


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (WORKLOADS["decode"], 1 / SECONDS_PER_TOKEN),
        (WORKLOADS["batch-16"], 16 / SECONDS_PER_TOKEN),
        (WORKLOADS["prefill-512"], 1 / SECONDS_PER_PROMPT_TOKEN),
        (WORKLOADS["load"], 2.0 + 8 * SECONDS_PER_PROMPT_TOKEN),
    ],
    ids=lambda value: value.name if isinstance(value, Workload) else "",
)
def test_values(workload, expected) -> None:
    opened, measured = answers({"path": "model", "options": {}}, workload.fields)
    assert opened == {"value": 0.0}
    assert measured["value"] == pytest.approx(expected)


def test_an_error_is_an_answer() -> None:
    (answer,) = answers({"path": "model", "options": {"broken": True}})
    assert answer == {"error": "RuntimeError: cannot read model"}
