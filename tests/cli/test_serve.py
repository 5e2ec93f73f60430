from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import typer
from typer.testing import Result

import lepton.server
from lepton.cli import options, serve, startup
from lepton.engine import EngineConfig
from lepton.server import ServerSettings

Run = Callable[..., Result]
Launch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("text", "count"),
    [("1024", 1024), ("4k", 4096), ("1.5M", 3 << 19), ("2G", 2 << 30), ("3 GiB", 3 << 30)],
)
def test_bytes_of(text: str, count: int) -> None:
    assert options.bytes_of(text) == count


@pytest.mark.parametrize("text", ["", "-1", "4T", "four", "1e9", "4 G B"])
def test_bytes_of_refuses(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        options.bytes_of(text)


@pytest.fixture
def seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What reaches engine and server, which are not started."""
    seen: dict[str, Any] = {}

    def engine(model: SimpleNamespace, config: EngineConfig) -> SimpleNamespace:
        seen.update(model=model.name, engine=config)
        return SimpleNamespace()

    def serve_http(load: Callable[[], object], settings: ServerSettings, **_: object) -> None:
        load()
        seen["settings"] = settings

    monkeypatch.setattr(startup, "load_any", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(startup, "AsyncEngine", engine)
    monkeypatch.setattr(serve, "configure_logging", lambda *names: seen.update(logging=names))
    monkeypatch.setattr(lepton.server, "serve", serve_http)
    return seen


def test_options_reach_engine_and_server(run: Run, seen: dict[str, Any], tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    run("keys", "generate", "desk", "--file", str(keys))
    result = run(
        *("serve", "some.gguf", "--port", "0", "--model-name", "chat", "--api-keys", str(keys)),
        *("--cors-origin", "https://a.example", "--cors-origin", "https://b.example"),
        *("--context-length", "512", "--cache-memory", "64M", "--max-sequences", "1000"),
        *(
            "--max-queue",
            "9",
            "--step-seconds",
            "0.05",
            "--max-queue-seconds",
            "3",
            "--max-tokens",
            "77",
            "--threads",
            "1",
            "--grace",
            "2.5",
        ),
        *("--no-prefix-cache", "--speculation", "off", "--request-timeout", "60"),
        *("--log-level", "warning", "--log-format", "json"),
        *("--max-body", "4M", "--liveness-seconds", "7"),
        *("--precision", "fast", "--kv-dtype", "int8", "--quantize", "int4"),
    )
    assert result.exit_code == 0, result.stderr
    assert seen["model"] == "some.gguf"
    assert seen["logging"] == ("warning", "json")
    assert seen["engine"] == EngineConfig(
        context_length=512,
        cache_memory=64 << 20,
        max_sequences=1000,
        max_step_tokens=1000,
        max_queue=9,
        max_queue_seconds=3,
        step_seconds=0.05,
        prefix_cache=False,
        speculation="off",
        threads=1,
        precision="fast",
        kv_dtype="int8",
        quantize="int4",
    )
    assert seen["settings"] == ServerSettings(
        port=0,
        model_name="chat",
        keys_file=keys,
        cors_origins=("https://a.example", "https://b.example"),
        max_tokens=77,
        max_body_bytes=4 << 20,
        max_requests=1009,
        liveness_seconds=7,
        max_queue_seconds=3,
        request_seconds=60,
        drain_seconds=2.5,
    )


def test_a_draft_model_and_a_spill_reach_the_engine(
    run: Run, seen: dict[str, Any], tmp_path: Path
) -> None:
    spill = ("--cache-spill", str(tmp_path), "--cache-spill-gb", "0.5")
    result = run("serve", "some.gguf", "--draft-model", "small.gguf", *spill)
    assert result.exit_code == 0, result.stderr
    assert seen["engine"] == EngineConfig(
        speculation="draft",
        draft_model="small.gguf",
        cache_spill=tmp_path,
        cache_spill_bytes=1 << 29,
    )
    result = run("serve", "some.gguf", "--draft-model", "small.gguf", "--speculation", "off")
    assert result.exit_code != 0
    assert "draft_model" in result.stderr


def test_a_port_in_use_is_told_before_the_model_is_looked_for(launch: Launch, home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = launch("serve", "/absent.gguf", "--port", str(port))
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ")
    assert f"127.0.0.1:{port}" in result.stderr
    assert "in use" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["/absent.gguf"], "/absent.gguf"),
        (["smollm2-135m-instruct", "--no-pull"], "lepton models pull"),
        (["--host", "0.0.0.0"], "API keys"),
        (["--api-keys", "/absent.toml"], "/absent.toml"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    launch: Launch, home: Path, arguments: list[str], reason: str
) -> None:
    result = launch("serve", *arguments, "--port", "0")
    assert result.returncode == 2
    assert reason in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.fixture
def server(smollm2_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`lepton serve` of the default model, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lepton", "serve", str(smollm2_path), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200", "LEPTON_LANG": "en"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r"http://127\.0\.0\.1:\d+", line)
    if match is None:
        _, errors = process.communicate(timeout=30)
        pytest.fail(f"the server did not start: {line}{errors}")
    yield process, match.group()
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=30)


def test_serve_answers_and_ends_on_sigterm(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    question = {"role": "user", "content": "What is the capital of France?"}
    body = {"model": "any", "messages": [question], "temperature": 0, "max_tokens": 16}
    body["model"] = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_chat_with_a_running_server(
    server: tuple[subprocess.Popen[str], str], launch: Launch
) -> None:
    _, url = server
    result = launch(
        *("chat", "--url", url, "--temperature", "0", "--max-tokens", "16"),
        stdin="What is the capital of France?\n/exit\n",
    )
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout
    assert "tokens/s" in result.stdout
