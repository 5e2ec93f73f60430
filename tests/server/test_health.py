"""Health tells the truth about a real engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lepton.engine import AsyncEngine, EngineConfig
from lepton.models.loader import load_model
from lepton.server import health


@pytest.fixture
def engine(smollm2_path: Path) -> Iterator[AsyncEngine]:
    config = EngineConfig(context_length=256, max_sequences=2, cache_memory=16 * 2**20)
    engine = AsyncEngine(load_model(smollm2_path), config)
    yield engine
    engine.shutdown()


def wait_for(http: httpx.Client, path: str, status: int) -> httpx.Response:
    deadline = time.monotonic() + 60
    while (response := http.get(path)).status_code != status:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.05)
    return response


def test_a_hung_step_turns_livez_red_and_its_end_green(
    scripted_port: Any, engine: AsyncEngine
) -> None:
    core, step = engine._core, engine._core.step
    released = threading.Event()

    def hanging_step() -> Any:
        released.wait(60)
        return step()

    core.step = hanging_step  # type: ignore[method-assign]
    port = scripted_port(model_name="smollm2", liveness_seconds=1.5)
    body = {"model": "smollm2", "prompt": "Once", "max_tokens": 2}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        assert http.get("/livez").status_code == 200
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(http.post("/v1/completions", json=body))
        )
        asking.start()
        red = wait_for(http, "/livez", 503)
        assert "has not gone round" in red.json()["reason"]
        assert http.get("/readyz").status_code == 503
        released.set()
        wait_for(http, "/livez", 200)
        asking.join(60)
        assert answers[0].status_code == 200


def test_a_dead_loop_turns_livez_red(scripted_port: Any, engine: AsyncEngine) -> None:
    class LoopDiedError(BaseException):
        """Nothing that a step may raise."""

    def deadly_step() -> Any:
        raise LoopDiedError

    port = scripted_port(model_name="smollm2")
    engine._core.step = deadly_step  # type: ignore[method-assign]
    body = {"model": "smollm2", "prompt": "Once", "max_tokens": 2}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        assert http.post("/v1/completions", json=body).status_code == 500
        red = wait_for(http, "/livez", 503)
        assert "not running" in red.json()["reason"]
        assert http.post("/v1/completions", json=body).status_code == 503


@pytest.mark.parametrize("fault", ["no result", "not a number"])
def test_requests_that_fail_one_after_another_turn_readyz_red(
    scripted_port: Any, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    forward = engine._core.executor.forward

    def failing_forward(batch: Any) -> Any:
        if fault == "no result":
            raise RuntimeError
        return np.full_like(forward(batch), np.nan)

    port = scripted_port(model_name="smollm2")
    engine._core.executor.forward = failing_forward  # type: ignore[method-assign]
    body = {"model": "smollm2", "prompt": "Once", "max_tokens": 2}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        for _ in range(health.MOST_FAILURES):
            assert http.get("/readyz").status_code == 200
            assert http.post("/v1/completions", json=body).status_code == 500
        red = http.get("/readyz")
        assert red.status_code == 503
        assert "requests failed in the engine" in red.json()["reason"]
        assert http.get("/livez").status_code == 200
        with monkeypatch.context() as patched:
            patched.setattr(health, "FAILING_SECONDS", 0.0)
            assert http.get("/readyz").status_code == 200
        engine._core.executor.forward = forward  # type: ignore[method-assign]
        assert http.post("/v1/completions", json=body).status_code == 200
        assert http.get("/readyz").status_code == 200
