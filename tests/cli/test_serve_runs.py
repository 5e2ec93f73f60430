"""Trained runs beside a model in one real server."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lepton.training import TrainingConfig, make_dataset, train

Launch = Callable[..., "subprocess.CompletedProcess[str]"]

TEXTS = ["refund please", "money back", "where is my parcel", "the parcel is late"] * 4
LINEAR = TrainingConfig(method="linear")


def train_version(name: Path, first: str, second: str) -> Path:
    labels = [first, first, second, second] * 4
    return train(make_dataset(TEXTS, labels), LINEAR, out=name)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    train_version(tmp_path / "intents", "refund", "delivery")
    train_version(tmp_path / "moods", "calm", "angry")
    return tmp_path


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """`lepton serve`, and its address."""
    command = [sys.executable, "-m", "lepton", "serve", *arguments]
    command += ["--port", "0", "--log-level", "error"]
    environment = {**os.environ, "COLUMNS": "200", "LEPTON_LANG": "en"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r"http://127\.0\.0\.1:\d+", line)
        try:
            assert match is not None, line
            yield match.group()
        finally:
            process.kill()


@pytest.fixture
def url(smollm2_path: Path, runs: Path) -> Iterator[str]:
    """The default model and two runs."""
    names = ["--run", str(runs / "intents"), "--run", str(runs / "moods")]
    with serving(str(smollm2_path), "--model-name", "chat", *names) as address:
        yield address


def test_unsure_texts_get_no_label(runs: Path) -> None:
    with (
        serving(str(runs / "intents"), "--threshold", "1") as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        answer = client.post("/v1/classify", json={"input": "xyz"}).json()["data"][0]
        assert answer["label"] is None
        assert max(answer["probs"]) == answer["probability"] < 1
        body = {"input": "xyz", "threshold": 0.0}
        assert client.post("/v1/classify", json=body).json()["data"][0]["label"] is not None
        refused = client.post("/v1/classify", json={"input": "xyz", "threshold": 1.5})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "threshold"


def test_one_server_generates_and_classifies_by_name(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        models = client.get("/v1/models").json()["data"]
        assert [model["id"] for model in models] == ["chat", "intents", "moods"]
        assert models[1]["root"] == "intents@1"
        assert client.get("/v1/models/moods@1").json()["labels"] == ["angry", "calm"]
        body = {"model": "chat", "prompt": "The capital of France is", "max_tokens": 4}
        assert client.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 4
        for name, label in (("intents", "refund"), ("moods@1", "calm")):
            answer = client.post("/v1/classify", json={"model": name, "input": "refund please"})
            assert answer.json()["model"] == f"{name.partition('@')[0]}@1"
            assert answer.json()["data"][0]["label"] == label
        unnamed = client.post("/v1/classify", json={"input": "refund please"})
        assert unnamed.status_code == 404
        assert "intents, moods" in unnamed.json()["error"]["message"]
        unknown = client.post("/v1/classify", json={"model": "chat", "input": "x"})
        assert unknown.status_code == 404
        assert "intents, moods" in unknown.json()["error"]["message"]


async def test_a_new_version_takes_over_under_load_and_no_request_fails(
    url: str, runs: Path
) -> None:
    seen: Counter[tuple[int, str, str]] = Counter()

    async def ask(client: httpx.AsyncClient) -> None:
        body = {"model": "intents", "input": "refund please"}
        while not any(version == "intents@2" for _, version, _ in seen):
            answer = await client.post("/v1/classify", json=body)
            content = answer.json()
            seen[answer.status_code, content["model"], content["data"][0]["label"]] += 1

    async with httpx.AsyncClient(base_url=url, timeout=60) as client, asyncio.timeout(120):
        training = asyncio.to_thread(train_version, runs / "intents", "money", "post")
        await asyncio.gather(training, *(ask(client) for _ in range(8)))
    # Each answer is by one version as a whole.
    assert set(seen) == {(200, "intents@1", "refund"), (200, "intents@2", "money")}


def test_two_runs_of_one_name_are_refused(launch: Launch, runs: Path) -> None:
    train_version(runs / "intents", "money", "post")
    first, second = str(runs / "intents@1"), str(runs / "intents@2")
    result = launch("serve", first, "--run", second, "--port", "0", LEPTON_LANG="en")
    assert result.returncode == 2
    assert "two runs are called 'intents'" in result.stderr.splitlines()[-1]


def test_a_run_that_is_not_there_is_named(launch: Launch, runs: Path) -> None:
    result = launch("serve", str(runs / "moods"), "--run", "absent", "--port", "0")
    assert result.returncode == 2
    assert "no run absent" in result.stderr.splitlines()[-1]
