"""Everything that was measured, in one JSON file that a later run adds to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.roofline import MachineLimits
from bench.shape import ModelShape
from lepton.files import replaced

FORMAT = 1


@dataclass(frozen=True)
class Sample:
    """One measurement of one round."""

    model: str
    workload: str
    engine: str
    round: int
    value: float
    settings: str = ""


@dataclass(frozen=True)
class Failure:
    """Why an engine could not do something. No model: it could not be had at all."""

    engine: str
    reason: str
    model: str = ""
    workload: str = ""


@dataclass(frozen=True)
class EngineNote:
    """What the report says of an engine."""

    name: str
    version: str
    description: str
    threads: int


@dataclass
class Results:
    """The contents of the file."""

    machine: dict[str, Any] = field(default_factory=dict)
    limits: list[MachineLimits] = field(default_factory=list)
    """One per measurement of the machine; the best of each figure counts."""
    engines: dict[str, EngineNote] = field(default_factory=dict)
    shapes: dict[str, ModelShape] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    fidelity: list[dict[str, Any]] = field(default_factory=list)
    neighbours: list[dict[str, Any]] = field(default_factory=list)

    def measured(self, model: str, workload: str, engine: str) -> int:
        """Rounds that are there."""
        return len(self.values(model, workload, engine))

    def failed(self, model: str, workload: str, engine: str) -> bool:
        """Whether it is known not to work."""
        return any(
            failure.engine == engine
            and failure.model in ("", model)
            and failure.workload in ("", workload)
            for failure in self.failures
        )

    def values(self, model: str, workload: str, engine: str) -> list[float]:
        """The value of every round."""
        wanted = (model, workload, engine)
        return [s.value for s in self.samples if (s.model, s.workload, s.engine) == wanted]

    def median(self, model: str, workload: str, engine: str) -> float | None:
        """The median over the rounds, or None when there is none."""
        values = self.values(model, workload, engine)
        return statistics.median(values) if values else None

    def best_limits(self, threads: int) -> MachineLimits | None:
        """The machine's limits with so many threads: the best figures that were measured."""
        measured = [limits for limits in self.limits if limits.threads == threads]
        if not measured:
            return None
        names = ("bytes_per_second", "integer_operations_per_second", "float_operations_per_second")
        best = {name: max(getattr(limits, name) for limits in measured) for name in names}
        return MachineLimits(**{**asdict(measured[0]), **best})

    def save(self, path: Path) -> None:
        """Replace the file at once, so that an interrupted run leaves a whole one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as part:
            part.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


def load(path: Path) -> Results:
    """Read a file that ``save`` wrote; empty results when there is none.

    Raises ValueError when the file is of another format.
    """
    if not path.exists():
        return Results()
    content = json.loads(path.read_text())
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}; choose another --results file")
    shapes = {name: _shape(fields) for name, fields in content["shapes"].items()}
    return Results(
        machine=content["machine"],
        limits=[MachineLimits(**fields) for fields in content["limits"]],
        engines={name: EngineNote(**fields) for name, fields in content["engines"].items()},
        shapes=shapes,
        samples=[Sample(**fields) for fields in content["samples"]],
        failures=[Failure(**fields) for fields in content["failures"]],
        fidelity=content["fidelity"],
        neighbours=content["neighbours"],
    )


def _shape(fields: dict[str, Any]) -> ModelShape:
    return ModelShape(**{**fields, "windows": tuple(fields["windows"])})


def in_order(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """The names in the given order, and those it does not have at the end."""
    ranks = {name: rank for rank, name in enumerate(order)}
    return sorted(set(names), key=lambda name: (ranks.get(name, len(ranks)), name))
