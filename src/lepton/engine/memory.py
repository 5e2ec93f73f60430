"""How much memory this process may still take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_UNLIMITED = 2**60


def available_memory(root: Path = Path("/")) -> int:
    """Bytes free for new allocations: of the machine, and of each cgroup (v1 or v2) around us.

    ``root`` is the file system's root. Returns a gibibyte where nothing can be read.
    """
    candidates = [*_machine(root), *_cgroups(root)]
    return min(candidates, default=2**30)


def _machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _cgroups(root: Path) -> Iterator[int]:
    mount = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _free(mount, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _free(
                mount / "memory",
                path,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )


def _free(mount: Path, path: str, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    """What the limit of the group and of each group above it leaves."""
    group = mount / path.strip("/")
    for folder in (group, *group.parents):
        allowed, used = _number(folder / limit), _number(folder / usage)
        if allowed is not None and used is not None and allowed < _UNLIMITED:
            yield max(0, allowed - used + _field(folder / "memory.stat", reclaimable))
        if folder == mount:
            return


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _field(path: Path, name: str) -> int:
    for line in _lines(path):
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
