"""A generator and encoders in one server: opened once, within one budget, undisturbed."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

import lepton.server
from lepton.cli.startup import ServedModels
from lepton.engine import AsyncEngine, EngineConfig, cache_plan, encoder_memory
from lepton.errors import ConfigurationError
from lepton.models import encoder_loader, loader
from lepton.models.encoder_loader import load_encoder
from lepton.models.weights import Checkpoint, open_checkpoint
from lepton.server import ServerSettings, bind, create_app
from lepton.server.run import DrainingServer
from lepton.telemetry.machine import inspect_machine

sys.path.append(str(Path(__file__).parents[1] / "models"))
from encoder_samples import save_bert, save_generator

Run = Callable[..., Result]

CONFIG = EngineConfig(threads=1, max_sequences=4)
TEXTS = [f"w{n} w{n + 1} w{n + 2}" for n in range(5, 9)]
PROMPT = {"model": "generator", "prompt": "w5 w6 w7", "temperature": 0, "max_tokens": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models by their names."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("generator", "encoder", "classifier"):
        (folder / name).mkdir()
    save_generator(folder / "generator")
    save_bert(folder / "encoder")
    save_bert(folder / "classifier", "BertForSequenceClassification", num_labels=3)
    return folder


def served(folder: Path, main: str | None, *encoders: str, name: str | None = None) -> ServedModels:
    paths = [str(folder / each) for each in encoders]
    return ServedModels(None if main is None else str(folder / main), paths, CONFIG, name)


@pytest.mark.parametrize("main", ["generator", "encoder"])
def test_each_model_is_opened_once(
    folder: Path, main: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Counter[str] = Counter()

    def count(path: Path) -> Checkpoint:
        opened[path.name] += 1
        return open_checkpoint(path)

    monkeypatch.setattr(loader, "open_checkpoint", count)
    monkeypatch.setattr(encoder_loader, "open_checkpoint", count)
    models = served(folder, main, "classifier")
    engine, encoders = models.load_engine(), models.load_encoders()
    assert opened == {main: 1, "classifier": 1}
    assert (engine is not None) == (main == "generator")
    assert set(encoders) == {main, "classifier"} - {"generator"}
    for encoder in encoders.values():
        encoder.close()
    if engine is not None:
        engine.shutdown()


def test_an_encoder_alone_has_the_name_and_the_length_asked_for(folder: Path) -> None:
    models = ServedModels(
        str(folder / "encoder"), [], replace(CONFIG, context_length=16), name="vectors"
    )
    assert models.load_engine() is None
    ((name, encoder),) = models.load_encoders().items()
    assert (name, encoder.engine.max_tokens) == ("vectors", 16)
    encoder.close()


@pytest.mark.parametrize(
    ("main", "encoders", "name"),
    [
        ("encoder", ["encoder"], None),
        (None, ["encoder", "encoder"], None),
        ("generator", ["encoder"], "encoder"),
    ],
)
def test_two_models_of_one_name_are_refused(
    folder: Path, main: str | None, encoders: list[str], name: str | None
) -> None:
    with pytest.raises(ConfigurationError, match="two models are called 'encoder'"):
        served(folder, main, *encoders, name=name).load_engine()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "none"),
        ("--quantize int4", "none"),
        ("--quantize int8", "int8"),
        ("--quantize int4 --encoder-quantize int8", "int8"),
        ("--quantize int8 --encoder-quantize none", "none"),
    ],
)
def test_encoders_are_quantized_by_an_option_of_their_own(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: str, expected: str
) -> None:
    found = []

    def load_all(load: Callable[[], AsyncEngine], _: ServerSettings, **others: Any) -> None:
        engine = load()
        (encoder,) = others["encoders"]().values()
        found.append(encoder.engine.config.quantize)
        encoder.close()
        engine.shutdown()

    monkeypatch.setattr(lepton.server, "serve", load_all)
    models = [str(folder / "generator"), "--encoder", str(folder / "encoder"), "--port", "0"]
    result = run("serve", *models, *arguments.split())
    assert result.exit_code == 0, result.output
    assert found == [expected]


def test_int4_is_no_choice_for_encoders(run: Run) -> None:
    result = run("serve", "generator", "--encoder-quantize", "int4")
    assert (result.exit_code, "'int4' is not one of" in result.output) == (2, True)


def test_what_does_not_fit_together_is_refused_with_the_sum(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved = 0
    for name in ("encoder", "classifier"):
        with load_encoder(folder / name) as model:
            reserved += encoder_memory.encoder_memory(model, CONFIG)
    free = reserved + cache_plan.WORKING_BYTES
    machine = replace(inspect_machine(), memory_available=free, cgroup_memory_available=None)
    monkeypatch.setattr(cache_plan, "inspect_machine", lambda: machine)
    with pytest.raises(ConfigurationError) as refusal:
        served(folder, "generator", "encoder", "classifier").load_engine()
    terms, _, rest = str(refusal.value).partition(" = ")
    numbers = [int(each.replace(",", "")) for each in re.findall(r"[\d,]*\d", terms)]
    total, available = [int(each.replace(",", "")) for each in re.findall(r"[\d,]*\d", rest)[:2]]
    weights, working, _, others = numbers
    assert sum(numbers) == total > available == free
    assert f"{others:,} for other models" in terms
    assert others == reserved
    assert working > cache_plan.WORKING_BYTES, "there are logits beside"
    assert weights > 0


def test_an_encoder_that_does_not_fit_is_refused_with_the_sum(folder: Path) -> None:
    machine = replace(inspect_machine(), memory_available=5000, cgroup_memory_available=None)
    config = replace(CONFIG, reserved_memory=7000)
    with load_encoder(folder / "encoder") as model:
        needed = encoder_memory.encoder_memory(model, config)
        with pytest.raises(ConfigurationError) as refusal:
            encoder_memory.check_memory(model, config, machine)
        encoder_memory.check_memory(model, config, replace(machine, memory_available=needed + 7000))
    assert f"+ 7,000 for other models = {needed + 7000:,} bytes, but 5,000 bytes" in str(
        refusal.value
    )


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """A real server with a generator and an encoder."""
    models = served(folder, "generator", "encoder")
    settings = ServerSettings(port=0, drain_seconds=1)
    listener = bind(settings)
    ready, urls = threading.Event(), []

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    app = create_app(models.load_engine, settings, encoders=models.load_encoders)
    server = DrainingServer(app, listener, on_ready)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    assert ready.wait(60)
    yield urls[0]
    server.drain()
    thread.join(60)
    assert not thread.is_alive()


async def complete(client: httpx.AsyncClient) -> str:
    """The stream's text."""
    body = {**PROMPT, "stream": True, "ignore_eos": True}
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        events = [line async for line in answer.aiter_lines() if line.startswith("data: {")]
    choices = [json.loads(event.removeprefix("data: "))["choices"] for event in events]
    return "".join(choice["text"] for listed in choices for choice in listed)


async def embed(client: httpx.AsyncClient) -> list[list[float]]:
    answer = await client.post("/v1/embeddings", json={"model": "encoder", "input": TEXTS})
    return [entry["embedding"] for entry in answer.json()["data"]]


async def test_generator_and_encoder_do_not_disturb_each_other(url: str) -> None:
    streams: list[str] = []
    vectors: list[list[list[float]]] = []

    def few() -> bool:
        return len(streams) < 3 or len(vectors) < 3

    async def stream(client: httpx.AsyncClient) -> None:
        while few():
            streams.append(await complete(client))

    async def ask_for_vectors(client: httpx.AsyncClient) -> None:
        while few():
            vectors.append(await embed(client))

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        alone = await complete(client), await embed(client)
        await asyncio.gather(stream(client), ask_for_vectors(client))
    assert alone[0].count("w") == PROMPT["max_tokens"]
    assert all(each == alone[0] for each in streams)
    assert all(each == alone[1] for each in vectors)
