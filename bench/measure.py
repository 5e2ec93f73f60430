"""The loop: every round measures each workload with each engine in turn.

Engines take turns within a workload, so that a drift of the machine's speed meets all of them. What
an earlier run measured is not measured again.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.engines import Contender
from bench.models import BenchModel
from bench.peers import LoadError, PeerError
from bench.results import EngineNote, Failure, Results, Sample
from bench.roofline import measure_limits
from bench.shape import read_shape
from bench.workloads import Workload
from lepton.errors import LeptonError
from lepton.telemetry.machine import inspect_machine

Report = Callable[[str], object]


def describe_machine(results: Results) -> None:
    """Note more of the machine, and measure its limits with one thread and with all."""
    machine = inspect_machine()
    results.machine |= {
        "system": machine.system,
        "memory_total": machine.memory_total,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    results.limits += [measure_limits(threads) for threads in sorted({1, machine.threads})]


class Run:
    """Measures into one results file."""

    def __init__(self, results: Results, file: Path, tell: Report) -> None:
        self._results = results
        self._file = file
        self._tell = tell

    def prepare(self, contenders: Sequence[Contender]) -> list[Contender]:
        """Install the engines; those that cannot be had are noted and left out."""
        ready = []
        for contender in contenders:
            engine = contender.engine
            self._forget_failures(engine.name)
            try:
                version = engine.prepare()
            except PeerError as error:
                self._fail(Failure(engine.name, str(error)))
                continue
            self._results.engines[engine.name] = EngineNote(
                engine.name, version, engine.description, engine.threads
            )
            ready.append(contender)
        return ready

    def measure(
        self,
        model: BenchModel,
        workloads: Sequence[Workload],
        contenders: Sequence[Contender],
        rounds: int,
    ) -> None:
        """Bring one model to ``rounds`` rounds."""
        chosen = [workload for workload in workloads if workload.name in model.workloads]
        if not any(self._missing(model, chosen, contenders, rounds)):
            return
        self._tell(f"{model.title}: getting the file")
        try:
            path = model.obtain()
        except (PeerError, LeptonError, OSError) as error:
            self._fail(Failure("", str(error), model.name))
            return
        self._results.shapes[model.name] = read_shape(path)
        try:
            for number in range(1, rounds + 1):
                for workload, contender in self._missing(model, chosen, contenders, number):
                    self._measure_once(model, path, workload, contender, number)
                self._results.limits.append(measure_limits(inspect_machine().threads))
                self._results.save(self._file)
        finally:
            for contender in contenders:
                contender.engine.close()
            if model.temporary:
                path.unlink(missing_ok=True)

    def _missing(
        self,
        model: BenchModel,
        workloads: Sequence[Workload],
        contenders: Sequence[Contender],
        rounds: int,
    ) -> list[tuple[Workload, Contender]]:
        return [
            (workload, contender)
            for workload in workloads
            for contender in contenders
            if contender.suits(model, workload)
            and self._results.measured(model.name, workload.name, contender.engine.name) < rounds
            and not self._results.failed(model.name, workload.name, contender.engine.name)
        ]

    def _measure_once(
        self, model: BenchModel, path: Path, workload: Workload, contender: Contender, number: int
    ) -> None:
        engine = contender.engine
        # An earlier workload of this round may have shown that the engine cannot load the model.
        if self._results.failed(model.name, workload.name, engine.name):
            return
        try:
            found = engine.measure(path, workload)
        except PeerError as error:
            scope = "" if isinstance(error, LoadError) else workload.name
            self._fail(Failure(engine.name, str(error), model.name, scope))
            engine.close()
            return
        finally:
            if model.large:
                engine.close()
        self._results.samples.append(
            Sample(model.name, workload.name, engine.name, number, found.value, found.settings)
        )
        self._results.save(self._file)
        self._tell(
            f"{model.title}, round {number}, {workload.title}, {engine.name}: "
            f"{found.value:,.4g} {workload.unit}"
        )

    def _fail(self, failure: Failure) -> None:
        self._results.failures.append(failure)
        self._results.save(self._file)
        self._tell(f"{failure.engine} {failure.model} {failure.workload}: {failure.reason}")

    def _forget_failures(self, engine: str) -> None:
        """What failed in an earlier run is tried again."""
        self._results.failures = [
            failure for failure in self._results.failures if failure.engine not in (engine, "")
        ]
