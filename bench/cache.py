"""Where the bench keeps what it makes: environments of peers, model files, logs."""

from __future__ import annotations

from pathlib import Path

from lepton.config import cache_directory


def bench_directory() -> Path:
    """A folder in Lepton's cache; it may not exist yet."""
    return cache_directory() / "bench"
