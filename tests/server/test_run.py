"""The process: addresses, access, and the way it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from lepton.errors import ConfigurationError
from lepton.security import hash_key
from lepton.server import ServerSettings, bind, create_app, serve
from lepton.server.run import DrainingServer

WAITING = 'lepton_num_requests_waiting{model_name="smollm2"} 1.0'
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]

PROGRAM = """
import sys
from lepton.engine import AsyncEngine, EngineConfig
from lepton.models.loader import load_model
from lepton.server import ServerSettings, bind, serve
from lepton.telemetry import configure_logging

configure_logging("info", "json")
settings = ServerSettings(port=0, model_name="smollm2", drain_seconds=float(sys.argv[2]))
listener = bind(settings)
config = EngineConfig(
    context_length=2048,
    max_sequences=int(sys.argv[3]),
    max_queue=int(sys.argv[3]),
    cache_memory=128 * 2**20,
    speculation="off",
)
engine = AsyncEngine(load_model(sys.argv[1]), config)
serve(engine, settings, listener=listener, on_ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


OBSTINATE = """
import sys, time
from lepton.engine import AsyncEngine, EngineConfig
from lepton.models.loader import load_model
from lepton.server import ServerSettings, bind, serve
from lepton.telemetry import configure_logging

_, path, grace, what = sys.argv
configure_logging("info", "json")

def hang():
    print("hanging", flush=True)
    time.sleep(3600)

def load():
    if what == "loading":
        hang()
    engine = AsyncEngine(load_model(path), EngineConfig(context_length=256, cache_memory=2**24))
    engine._core.step = hang
    return engine

listener = bind(ServerSettings(port=0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
settings = ServerSettings(port=0, model_name="smollm2", drain_seconds=float(grace))
serve(load, settings, listener=listener, on_ready=lambda _: print("ready", flush=True))
print("ended", flush=True)
"""
"""A server that hangs while it loads its model, or in its first step."""


@pytest.fixture
def obstinate(smollm2_path: Path) -> Iterator[Any]:
    processes: list[subprocess.Popen[str]] = []

    def make(grace: float, what: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OBSTINATE, str(smollm2_path), str(grace), what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert process.stdout.readline() == ("hanging\n" if what == "loading" else "ready\n")
        return process, url

    yield make
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Process:
    """A server in a process of its own, computing so many completions at a time."""

    def __init__(self, model: Path, grace: float, sequences: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(model), str(grace), str(sequences)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def stream(self, tokens: int) -> Any:
        body = {"model": "smollm2", "messages": FRANCE, "stream": True, "ignore_eos": True,
                "max_tokens": tokens, "temperature": 0}  # fmt: skip
        return self.http.stream("POST", "/v1/chat/completions", json=body)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)

    def end(self) -> tuple[int, str, str]:
        out, err = self._process.communicate(timeout=60)
        return self._process.returncode, out, err

    def close(self) -> None:
        self.http.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def start(smollm2_path: Path) -> Iterator[Any]:
    processes: list[Process] = []

    def make(grace: float, sequences: int = 1) -> Process:
        processes.append(Process(smollm2_path, grace, sequences))
        return processes[-1]

    yield make
    for process in processes:
        process.close()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_full_queue_is_a_429_and_sigterm_lets_streams_finish(start: Any) -> None:
    process = start(grace=60)
    with process.stream(600) as running, ThreadPoolExecutor(1) as pool:
        lines = running.iter_lines()
        next(lines)
        # Its response begins with its first token, when the other has ended.
        waiting = pool.submit(read_streams, process, [4], threading.Barrier(1))
        wait_until(lambda: WAITING in process.http.get("/metrics").text)
        body = {"model": "smollm2", "messages": FRANCE}
        refused = process.http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(refused.headers["retry-after"]) >= 1

        process.terminate()
        wait_until(lambda: process.http.get("/readyz").status_code == 503)
        late = process.http.post("/v1/chat/completions", json=body)
        assert late.status_code == 503
        assert int(late.headers["retry-after"]) >= 1
        assert process.http.get("/livez").status_code == 200

        text = [line for line in lines if line]
        assert text[-1] == "data: [DONE]"
        assert '"finish_reason":"length"' in text[-2]
        assert len(text) > 100
        ((*_, last),) = waiting.result(60)
        assert last == "data: [DONE]"
    code, out, err = process.end()
    assert code == 0
    assert out.strip() == "ended"
    assert "Traceback" not in err


def read_streams(process: Process, tokens: list[int], begun: threading.Barrier) -> list[list[str]]:
    """The lines of streams that are read at once, one for each number of tokens."""

    def read(count: int) -> list[str]:
        with process.stream(count) as stream:
            lines = stream.iter_lines()
            first = next(lines)
            begun.wait(60)
            return [first, *(line for line in lines if line)]

    with ThreadPoolExecutor(len(tokens)) as pool:
        return list(pool.map(read, tokens))


@pytest.mark.parametrize(
    ("grace", "tokens", "end"),
    [
        pytest.param(60, range(40, 200, 10), '"finish_reason":"length"', id="whole"),
        pytest.param(0.1, [1900] * 16, '"code":"unavailable"', id="told why not"),
    ],
)
def test_sigterm_in_the_middle_of_16_streams(
    start: Any, grace: float, tokens: list[int], end: str
) -> None:
    process = start(grace=grace, sequences=16)
    children = process.children()
    begun = threading.Barrier(17)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_streams, process, tokens, begun)
        begun.wait(60)
        process.terminate()
        streams = reading.result(60)
    for lines in streams:
        assert lines[-1] == "data: [DONE]"
        assert end in lines[-2]
    code, out, err = process.end()
    assert (code, out.strip()) == (0, "ended")
    assert "Traceback" not in err
    assert not [child for child in children if child.is_running()]


def test_sigterm_does_not_wait_for_a_model_being_loaded(obstinate: Any) -> None:
    process, _ = obstinate(grace=60, what="loading")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "ended\n")
    assert "Traceback" not in err


@pytest.mark.parametrize("stream", [False, True])
def test_sigterm_does_not_wait_for_a_step_that_hangs(obstinate: Any, stream: bool) -> None:
    process, url = obstinate(grace=0.2, what="step")
    body = {"model": "smollm2", "prompt": "Once", "stream": stream}
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(httpx.post, f"{url}/v1/completions", json=body, timeout=60)
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGTERM)
        answer = asking.result(60)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "ended\n")
    assert "stuck in a step" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process(obstinate: Any, second: signal.Signals) -> None:
    process, url = obstinate(grace=3600, what="step")
    body = {"model": "smollm2", "prompt": "Once"}
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(httpx.post, f"{url}/v1/completions", json=body, timeout=60)
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
        process.send_signal(second)
        with pytest.raises(httpx.RemoteProtocolError):
            asking.result(60)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + second, "")
    assert "serving" in err, "what was logged is out"
    assert "Traceback" not in err


def test_after_kill_minus_9_a_new_server_starts_cleanly(start: Any) -> None:
    process = start(grace=3, sequences=4)
    with process.stream(1900) as running:
        lines = running.iter_lines()
        next(lines)
        process.kill()
        with pytest.raises(httpx.HTTPError):
            list(lines)
    assert process.end()[0] == -signal.SIGKILL
    again = start(grace=3, sequences=4)
    assert again.http.get("/readyz").status_code == 200
    with again.stream(4) as stream:
        assert list(stream.iter_lines())[-2] == "data: [DONE]"


def test_what_outlives_the_grace_period_is_told_so(start: Any) -> None:
    process = start(grace=0.2)
    with process.stream(1900) as running:
        lines = running.iter_lines()
        next(lines)
        process.terminate()
        text = [line for line in lines if line]
    assert text[-1] == "data: [DONE]"
    assert '"code":"unavailable"' in text[-2]
    code, out, err = process.end()
    assert code == 0
    assert out.strip() == "ended"
    assert "Traceback" not in err


def test_a_port_in_use_is_told_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}: the port is in use"):
            bind(ServerSettings(port=port))


def test_a_port_that_another_took_in_the_meantime_is_told(engine: Any) -> None:
    with bind(ServerSettings(port=0)) as first:
        settings = ServerSettings(port=first.getsockname()[1])
        second = bind(settings)
        first.listen()
        with pytest.raises(ConfigurationError, match="the port is in use"):
            serve(engine, settings, listener=second)
    assert not engine.alive, "the engine is shut down"


def test_a_server_answers_while_its_model_is_loaded(engine: Any) -> None:
    loading = threading.Event()

    def load() -> Any:
        assert loading.wait(60)
        return engine

    settings = ServerSettings(port=0)
    urls: list[str] = []
    with bind(settings) as listener:
        server = DrainingServer(create_app(load, settings), listener, urls.append)
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        transport = httpx.HTTPTransport(retries=10)
        with httpx.Client(base_url=url, transport=transport, timeout=60) as http:
            wait_until(lambda: server.started)
            assert http.get("/livez").status_code == 200
            refused = http.get("/readyz")
            assert (refused.status_code, "loaded" in refused.json()["reason"]) == (503, True)
            body = {"model": "scripted", "messages": FRANCE}
            early = http.post("/v1/chat/completions", json=body)
            assert (early.status_code, early.json()["error"]["code"]) == (503, "unavailable")
            assert int(early.headers["retry-after"]) >= 1
            metrics = http.get("/metrics").text
            assert 'lepton_requests_refused_total{code="unavailable"} 1.0' in metrics
            assert not urls
            loading.set()
            wait_until(lambda: urls)
            assert http.get("/readyz").status_code == 200
            assert http.post("/v1/chat/completions", json=body).status_code == 200
        server.drain()
        thread.join(60)
    assert not thread.is_alive()
    assert not engine.alive


def test_a_model_that_cannot_be_loaded_ends_the_server() -> None:
    def load() -> Any:
        raise ConfigurationError("no room")

    with pytest.raises(ConfigurationError, match="no room"):
        serve(load, ServerSettings(port=0))


def test_foreign_and_unknown_addresses_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be resolved"):
        bind(ServerSettings(host="no such host", allow_anonymous=True))
    with pytest.raises(ConfigurationError, match="does not have the address"):
        bind(ServerSettings(host="192.0.2.1", port=0, allow_anonymous=True))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_other_machines_need_keys(host: str) -> None:
    with pytest.raises(ConfigurationError, match="no API keys"):
        bind(ServerSettings(host=host, port=0))


def test_keys_or_consent_open_the_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nname = "a"\nsha256 = "{hash_key("x")}"\n')
    bind(ServerSettings(host="0.0.0.0", port=0, keys_file=keys)).close()
    assert "no API keys" not in caplog.text
    bind(ServerSettings(host="0.0.0.0", port=0, allow_anonymous=True)).close()
    assert "no API keys" in caplog.text
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        bind(ServerSettings(keys_file=tmp_path / "none.toml"))


@pytest.mark.parametrize(
    "nonsense",
    [
        {"port": 70_000},
        {"max_n": 0},
        {"max_tokens": 0},
        {"body_seconds": 0},
        {"drain_seconds": -1},
        {"cors_origins": ("chat.example.com",)},
    ],
)
def test_settings_are_checked(nonsense: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="(?i)" + next(iter(nonsense)).split("_")[0]):
        ServerSettings(**nonsense)
