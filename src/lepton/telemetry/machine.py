"""What this process may use of the machine: processors and memory, as Linux limits them.

Control groups: https://docs.kernel.org/admin-guide/cgroup-v2.html (version 1 is read as well).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_UNLIMITED = 1 << 60
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Machine:
    """Processors and memory; memory in bytes. None: no limit, or not known."""

    processor: str
    architecture: str
    system: str
    logical_processors: int
    affinity_processors: int
    cgroup_processors: float | None
    memory_total: int
    memory_available: int
    cgroup_memory_limit: int | None
    cgroup_memory_available: int | None
    """What the tightest control group leaves, counting file pages that it can drop."""

    @property
    def available_memory(self) -> int:
        """Bytes free for new allocations: a gibibyte where nothing could be read."""
        if self.cgroup_memory_available is None:
            return self.memory_available or 1 << 30
        return min(self.memory_available or _UNLIMITED, self.cgroup_memory_available)

    @property
    def threads(self) -> int:
        """Threads worth starting: the affinity mask, or the group's quota rounded down."""
        allowed = self.affinity_processors
        if self.cgroup_processors is not None:
            allowed = min(allowed, int(self.cgroup_processors))
        return max(1, allowed)


def inspect_machine(root: Path = Path("/")) -> Machine:
    """Read the facts from ``/proc`` and ``/sys`` below ``root``."""
    memory = _memory(root / "proc/meminfo")
    groups = list(_groups(root))
    logical = os.cpu_count() or 1
    return Machine(
        processor=_processor(root / "proc/cpuinfo"),
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        logical_processors=logical,
        affinity_processors=len(os.sched_getaffinity(0)),
        memory_total=memory.get("MemTotal", 0),
        memory_available=memory.get("MemAvailable", 0),
        cgroup_processors=_least(group.processors for group in groups),
        cgroup_memory_limit=_least(group.memory_limit for group in groups),
        cgroup_memory_available=_least(group.memory_available for group in groups),
    )


@dataclass(frozen=True)
class _Group:
    processors: float | None
    memory_limit: int | None
    memory_available: int | None


def _groups(root: Path) -> Iterator[_Group]:
    """The process's control group and each one above it, all of whose limits hold."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        names = controllers.split(",")
        if not controllers:
            for folder in _upwards(root / "sys/fs/cgroup", path):
                yield _version_2(folder)
        elif "cpu" in names or "memory" in names:
            for name in names:
                for folder in _upwards(root / "sys/fs/cgroup" / name, path):
                    yield _version_1(folder)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part and part != ".."]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _version_2(folder: Path) -> _Group:
    quota, period = [*_read(folder / "cpu.max").split(), "", ""][:2]
    limit = _bytes(_read(folder / "memory.max"))
    used = _bytes(_read(folder / "memory.current"))
    return _Group(_ratio(quota, period), limit, _left(limit, used, folder, "inactive_file"))


def _version_1(folder: Path) -> _Group:
    quota = _read(folder / "cpu.cfs_quota_us")
    limit = _bytes(_read(folder / "memory.limit_in_bytes"))
    used = _bytes(_read(folder / "memory.usage_in_bytes"))
    return _Group(
        _ratio(quota, _read(folder / "cpu.cfs_period_us")),
        limit,
        _left(limit, used, folder, "total_inactive_file"),
    )


def _left(limit: int | None, used: int | None, folder: Path, reclaimable: str) -> int | None:
    if limit is None or used is None:
        return None
    match = re.search(rf"^{reclaimable} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
    return max(0, limit - used + (int(match.group(1)) if match else 0))


def _least(values: Iterable[Number | None]) -> Number | None:
    return min((value for value in values if value is not None), default=None)


def _ratio(quota: str, period: str) -> float | None:
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0:
        return None
    return int(quota) / int(period)


def _bytes(text: str) -> int | None:
    return int(text) if text.isdigit() and int(text) < _UNLIMITED else None


def _memory(path: Path) -> dict[str, int]:
    pairs = re.findall(r"^(\w+):\s+(\d+) kB$", _read(path), re.MULTILINE)
    return {name: int(kilobytes) * 1024 for name, kilobytes in pairs}


def _processor(path: Path) -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read(path), re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
