"""What the bench asks of an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from bench.workloads import Workload


class PeerError(Exception):
    """An engine is not to be had, or cannot do what was asked; the message goes into the report."""


class LoadError(PeerError):
    """An engine cannot load a model, so none of its workloads can be measured."""


@dataclass(frozen=True)
class Measurement:
    """A value in the unit of its workload, and the settings that gave it where several compete."""

    value: float
    settings: str = ""


class Engine(ABC):
    """An engine with fixed settings, named as in the report."""

    def __init__(self, name: str, description: str, threads: int) -> None:
        self.name = name
        self.description = description
        self.threads = threads

    @abstractmethod
    def prepare(self) -> str:
        """Install what it needs and return its version; raises PeerError."""

    @abstractmethod
    def measure(self, path: Path, workload: Workload) -> Measurement:
        """Measure once on a model's file; raises PeerError."""

    @abstractmethod
    def close(self) -> None:
        """End its processes; it can be used again."""
