"""Files that appear whole or not at all: written under a passing name, renamed at the end.

And locks, for what only one process may write.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lepton.errors import ConfigurationError


def part_of(path: Path) -> Path:
    """The passing name of a file that is being written, in the same folder."""
    return path.with_name(f"{path.name}.part")


def complete(part: Path, path: Path) -> None:
    """Give a file that is complete its final name, once its content is on the disk.

    After a power failure too, ``path`` is what it was or the whole new file.
    """
    with part.open("rb") as content:
        os.fsync(content.fileno())
    part.replace(path)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """The passing name to write to; it becomes ``path`` unless the block fails.

    What a failed block has written stays under the passing name.
    """
    part = part_of(path)
    yield part
    complete(part, path)


def state_of(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Names, nodes, sizes and times of a file, or of all in a folder: equal while none changes."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = ((str(file), file.stat()) for file in files)
    return tuple((name, each.st_ino, each.st_size, each.st_mtime_ns) for name, each in states)


def lock(file: int | IO[Any], busy: str) -> None:
    """Lock an open file or folder for this process until it is closed.

    Raises ConfigurationError with the text ``busy`` when another process has the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(busy) from None
