"""What is measured, the same for every engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["decode", "prefill", "load", "memory", "idle"]
Unit = Literal["tokens/s", "s", "bytes", "%"]

UNITS: dict[Kind, Unit] = {
    "decode": "tokens/s",
    "prefill": "tokens/s",
    "load": "s",
    "memory": "bytes",
    "idle": "%",
}


@dataclass(frozen=True)
class Workload:
    """One thing to measure.

    ``decode`` continues ``streams`` sequences that hold ``context`` tokens by ``tokens`` each, and
    counts all streams together; ``prefill`` reads a prompt of ``context`` tokens. ``load`` is the
    time from nothing to the first token in a process that has its libraries, the file in the page
    cache; ``memory`` the most that was resident while a prompt was read and continued; ``idle``
    what a loaded engine takes of one processor while nothing is asked of it.
    """

    name: str
    title: str
    kind: Kind
    context: int = 8
    streams: int = 1
    tokens: int = 0

    @property
    def unit(self) -> Unit:
        """What its values are in."""
        return UNITS[self.kind]

    @property
    def more_is_better(self) -> bool:
        """Speeds are; seconds, bytes and percentages are not."""
        return self.unit == "tokens/s"

    @property
    def fields(self) -> dict[str, Any]:
        """What a worker process must know."""
        return asdict(self)


_ALL = (
    Workload("decode", "decode, 1 stream", "decode", tokens=128),
    Workload("prefill-64", "prefill 64", "prefill", 64),
    Workload("prefill-512", "prefill 512", "prefill", 512),
    Workload("prefill-2048", "prefill 2048", "prefill", 2048),
    Workload("batch-4", "decode, 4 streams", "decode", streams=4, tokens=64),
    Workload("batch-16", "decode, 16 streams", "decode", streams=16, tokens=64),
    Workload("batch-64", "decode, 64 streams", "decode", streams=64, tokens=32),
    Workload("context-2k", "decode at 2,000 tokens", "decode", 2000, tokens=32),
    Workload("context-8k", "decode at 8,000 tokens", "decode", 8000, tokens=32),
    Workload("load", "load to first token", "load"),
    Workload("memory", "peak memory", "memory", 512, tokens=16),
    Workload("idle", "idle processor time", "idle"),
)

WORKLOADS = {workload.name: workload for workload in _ALL}

FULL = tuple(WORKLOADS)
SPEED = ("decode", "prefill-512", "batch-16")
LARGE = ("decode", "prefill-64", "prefill-512", "batch-4", "context-2k", "load", "memory")
QUICK = ("decode", "prefill-64", "prefill-512", "batch-16")
