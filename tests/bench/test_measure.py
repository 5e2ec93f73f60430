"""The loop takes turns, notes failures, and goes on where an earlier run ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.engines import Contender
from bench.measure import Run
from bench.models import BenchModel
from bench.peers import Engine, LoadError, Measurement, PeerError
from bench.results import Results, load
from bench.workloads import WORKLOADS

from bench import measure

CHOSEN = [WORKLOADS["decode"], WORKLOADS["prefill-64"]]


class FakeEngine(Engine):
    """Notes in a shared log what it was asked."""

    def __init__(self, name: str, log: list[tuple[str, str]], error: Exception | None = None):
        super().__init__(name, "made up", 1)
        self.log = log
        self.error = error
        self.closed = 0

    def prepare(self) -> str:
        if self.error is not None and not isinstance(self.error, LoadError):
            raise self.error
        return "1.0"

    def measure(self, path, workload) -> Measurement:
        if self.error is not None:
            raise self.error
        self.log.append((workload.name, self.name))
        return Measurement(float(len(self.log)))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def model(smollm2_path) -> BenchModel:
    names = tuple(workload.name for workload in CHOSEN)
    return BenchModel("made-up", "Made up", "none", names, lambda: smollm2_path, "a test")


@pytest.fixture(autouse=True)
def no_probe(monkeypatch, limits) -> None:
    monkeypatch.setattr(measure, "measure_limits", lambda threads: limits)


def contend(engine: Engine) -> Contender:
    return Contender(engine, engine.name, lambda _model, _workload: True)


def test_engines_take_turns_within_a_workload(tmp_path, model) -> None:
    log: list[tuple[str, str]] = []
    run = Run(Results(), tmp_path / "results.json", lambda _: None)
    engines = run.prepare([contend(FakeEngine(name, log)) for name in ("a", "b")])
    run.measure(model, CHOSEN, engines, 2)
    once = [(workload.name, name) for workload in CHOSEN for name in ("a", "b")]
    assert log == once * 2
    assert all(contender.engine.closed for contender in engines)


def test_a_second_run_adds_only_what_is_missing(tmp_path, model) -> None:
    path: Path = tmp_path / "results.json"
    log: list[tuple[str, str]] = []
    for rounds in (1, 1, 3):
        run = Run(load(path), path, lambda _: None)
        run.measure(model, CHOSEN, run.prepare([contend(FakeEngine("a", log))]), rounds)
    assert len(log) == 3 * len(CHOSEN)
    assert [sample.round for sample in load(path).samples] == [1, 1, 2, 2, 3, 3]


def test_what_fails_is_noted_and_left(tmp_path, model) -> None:
    path: Path = tmp_path / "results.json"
    log: list[tuple[str, str]] = []
    engines = [
        contend(FakeEngine("absent", log, PeerError("no such package"))),
        contend(FakeEngine("narrow", log, LoadError("cannot read Q4_1"))),
        contend(FakeEngine("fine", log)),
    ]
    run = Run(Results(), path, lambda _: None)
    run.measure(model, CHOSEN, run.prepare(engines), 1)
    assert log == [(workload.name, "fine") for workload in CHOSEN]
    told = [(failure.engine, failure.reason) for failure in load(path).failures]
    assert told == [("absent", "no such package"), ("narrow", "cannot read Q4_1")]
