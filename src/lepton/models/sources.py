"""Where a model file can come from, and how it gets into the cache whole or not at all.

Each source writes into ``<file>.part`` beside the final file. Only when size and SHA-256 are right
is the part renamed, so a file under its final name is always complete. What an interrupted
download left behind is used again by the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lepton.errors import DownloadError
from lepton.models.archives import unpack_zip

CHUNK_BYTES = 1 << 20

ProgressCallback = Callable[[str, int, int | None], None]
"""Called with the stage ("wait", "download", "unpack", "verify"), bytes done and bytes in all."""


def no_progress(stage: str, done: int, total: int | None) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True)
class Source(ABC):
    """One place that offers one file of a model."""

    file: str
    """Name of the file in the cache."""
    size: int | None
    """Bytes, or None when unknown."""
    sha256: str | None
    """Hexadecimal digest, or None when unknown."""
    tried: bool
    """Whether the project's own tests have fetched it."""
    folder: str | None = field(default=None, kw_only=True)
    """Where the file is an archive: name of the folder it is unpacked to."""

    @property
    def model(self) -> str:
        """Name, in the cache, of what is loaded: the file, or the folder of an archive."""
        return self.folder or self.file

    @property
    @abstractmethod
    def kind(self) -> str:
        """The word that chooses this source on the command line."""

    @property
    @abstractmethod
    def address(self) -> str:
        """What a person would look for: a package, a repository or a path."""

    @abstractmethod
    def fetch(self, part: Path, progress: ProgressCallback) -> str | None:
        """Fill the file ``part``; return the SHA-256 that the other side reports, if it does.

        Raises:
            DownloadError: the file could not be had; what ``part`` holds may be resumed.
        """


@dataclass(frozen=True)
class LocalSource(Source):
    """A file that is already on this machine."""

    path: Path

    @property
    def kind(self) -> str:
        """Always "local"."""
        return "local"

    @property
    def address(self) -> str:
        """The path."""
        return str(self.path)

    def fetch(self, part: Path, progress: ProgressCallback) -> str | None:
        """Copy the file; see ``Source.fetch``."""
        try:
            with self.path.open("rb") as source, part.open("wb") as target:
                total = os.fstat(source.fileno()).st_size
                done = 0
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                    done += len(chunk)
                    progress("download", done, total)
        except OSError as error:
            raise DownloadError(f"{self.path} cannot be copied: {error.strerror}") from error
        return None


def obtain(source: Source, folder: Path, progress: ProgressCallback = no_progress) -> Path:
    """Fetch ``source`` into ``folder`` unless it is there, verify it, and return the model's path.

    A second process that asks for the same folder waits for the first.

    Raises:
        DownloadError: it could not be fetched, is not what was promised, or does not fit the disk.
    """
    target = folder / source.file
    part = folder / f"{source.file}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, progress):
            if not (target.is_file() and _intact(target, source, progress)):
                _check_space(source, part)
                reported = source.fetch(part, progress)
                _accept(source, part, target, reported, progress)
            if source.folder is not None and not (folder / source.folder).is_dir():
                progress("unpack", 0, None)
                unpack_zip(target, folder / source.folder)
    except OSError as error:
        raise DownloadError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder / source.model


def file_digest(path: Path, progress: ProgressCallback = no_progress) -> str:
    """SHA-256 of a file as 64 lower-case hexadecimal digits."""
    total = path.stat().st_size
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress("verify", done, total)
    return digest.hexdigest()


def digest_file(target: Path) -> Path:
    """The ``sha256sum``-style file that keeps the digest of a downloaded file."""
    return target.with_name(f"{target.name}.sha256")


def recorded_digest(target: Path) -> str | None:
    """The digest noted when ``target`` was downloaded, or None."""
    try:
        text = digest_file(target).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    match = re.match(r"([0-9a-f]{64})\b", text)
    return match.group(1) if match else None


@contextmanager
def _locked(folder: Path, progress: ProgressCallback) -> Iterator[None]:
    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("wait", 0, None)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _intact(target: Path, source: Source, progress: ProgressCallback) -> bool:
    expected = source.sha256 or recorded_digest(target)
    if source.size is not None and target.stat().st_size != source.size:
        return False
    return expected is None or file_digest(target, progress) == expected


def _check_space(source: Source, part: Path) -> None:
    if source.size is None:
        return
    present = part.stat().st_size if part.exists() else 0
    needed = source.size - present
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DownloadError(
            f"{source.file} needs {needed:,} more bytes, but {part.parent} has {free:,} free; "
            "make room or set LEPTON_HOME to a folder on a larger disk"
        )


def _accept(
    source: Source, part: Path, target: Path, reported: str | None, progress: ProgressCallback
) -> None:
    size = part.stat().st_size
    if source.size is not None and size != source.size:
        part.unlink()
        raise DownloadError(
            f"{source.file} from {source.address} has {size:,} bytes instead of {source.size:,}; "
            "it was removed, pull again or choose another --source"
        )
    digest = file_digest(part, progress)
    expected = source.sha256 or reported
    if expected is not None and digest != expected:
        part.unlink()
        raise DownloadError(
            f"{source.file} from {source.address} has SHA-256 {digest} instead of {expected}; "
            "it was removed, pull again or choose another --source"
        )
    digest_file(target).write_text(f"{digest}  {target.name}\n", "ascii")
    part.replace(target)
