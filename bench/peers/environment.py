"""A virtual environment for each peer, made on first use below the bench's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.cache import bench_directory
from bench.peers.base import PeerError

_LOG_LINES = 3


@dataclass(frozen=True)
class Environment:
    """Packages that are installed one command after another, and packages removed at the end."""

    name: str
    steps: tuple[tuple[str, ...], ...]
    removed: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """What packages that are compiled are told by their environment."""

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        return bench_directory() / "environments" / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def prepare(self) -> None:
        """Create it unless it is complete; raises PeerError with the last lines of pip's log."""
        done = self.folder / "complete"
        if done.exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        venv.create(self.folder, with_pip=True)
        for step in self.steps:
            self._pip("install", *step)
        if self.removed:
            self._pip("uninstall", "--yes", *self.removed)
        done.touch()

    def version(self, package: str) -> str:
        """The installed version of a package, or an empty string."""
        script = f"from importlib.metadata import version; print(version({package!r}))"
        result = subprocess.run([self.python, "-c", script], capture_output=True, text=True)
        return result.stdout.strip()

    def _pip(self, *arguments: str) -> None:
        log = self.folder / "pip.log"
        with log.open("a") as file:
            command = [str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments]
            environment = {**os.environ, **self.variables}
            result = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        if result.returncode:
            last = " ".join(log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:])
            raise PeerError(f"pip {' '.join(arguments)} failed: {last} (see its pip.log)")
