"""The folder that a training leaves behind, and its versions.

``runs/intents`` is a name; ``runs/intents@1``, ``runs/intents@2`` … are its runs. A run is finished
when ``run.json`` is in it: that file is written last, and whole. Nothing in a run is a pickle.

| file | what |
| --- | --- |
| ``run.json`` | method, objective, labels, calibration, configuration, data fingerprint |
| ``metrics.json`` | scores on the validation data, by candidate where several were tried |
| ``curves.csv`` | what was measured in each epoch |
| ``model.safetensors`` | weights (``head.safetensors`` beside an ``encoder/`` folder) |
| ``vocabulary.json``, ``tokenizer.json`` | terms of `linear`, tokens of a network |
| ``README.md`` | model card |
| ``baseline/`` | a `linear` model of the same data, to compare with |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from lepton.errors import ConfigurationError, DataError, ModelFormatError, ModelNotFoundError
from lepton.files import replaced
from lepton.training.config import METHODS, OBJECTIVES, Method, Objective, TrainingConfig

MANIFEST = "run.json"
METRICS = "metrics.json"
CURVES = "curves.csv"
WEIGHTS = "model.safetensors"
VOCABULARY = "vocabulary.json"
CARD = "README.md"
BASELINE = "baseline"
"""Folder inside a run with a `linear` model of the same data, to compare with."""
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 16 << 20
MAX_VOCABULARY_BYTES = 512 << 20
_VERSIONED = re.compile(r"(?P<name>.+)@(?P<version>[1-9][0-9]*)")

Tensors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class RunManifest:
    """What ``run.json`` says."""

    name: str
    version: int
    method: Method
    objective: Objective
    labels: tuple[str, ...]
    config: TrainingConfig
    data_fingerprint: str
    num_rows: int
    created: str
    """Moment in UTC, ISO 8601."""
    lepton_version: str
    temperature: float = 1.0
    """Scores are divided by it before they become probabilities (arXiv:1706.04599)."""
    threshold: float = 0.0
    """A text whose best probability is below it gets no label."""
    target_mean: float = 0.0
    target_scale: float = 1.0
    """A regression's outputs are multiplied by the scale, then the mean is added."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """What the method needs beside the weights."""
    text_columns: tuple[str, ...] = ()
    """Columns of the table that its texts came from."""

    @property
    def full_name(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


def split_name(name: str) -> tuple[str, int | None]:
    """Take ``intents@3`` apart into ("intents", 3); a name alone has version None."""
    match = _VERSIONED.fullmatch(name)
    return (match["name"], int(match["version"])) if match else (name, None)


def versions(path: Path) -> dict[int, Path]:
    """Finished runs of the name ``path`` (such as ``runs/intents``), by version, oldest first."""
    return {
        version: folder
        for version, folder in _numbered(path).items()
        if (folder / MANIFEST).is_file()
    }


def locate_run(path: str | Path) -> Path:
    """The folder of a run: ``path`` itself, or the newest finished version of that name.

    Raises:
        ModelNotFoundError: there is no finished run.
    """
    path = Path(path).expanduser()
    if (path / MANIFEST).is_file():
        return path
    found = versions(path)
    if found:
        return found[max(found)]
    if path.is_dir():
        raise ModelNotFoundError(
            f"{path} is no finished run: it has no {MANIFEST}. The command that began the "
            "training continues it"
        )
    raise ModelNotFoundError(f"no run {path}: train one with: lepton train FILE --out {path}")


def is_run(path: str | Path) -> bool:
    """Whether `locate_run` finds a run there."""
    try:
        locate_run(path)
    except (ModelNotFoundError, OSError, RuntimeError):
        return False
    return True


def new_version(path: Path) -> Path:
    """A folder name for the next run of the name ``path``; nothing there is ever overwritten."""
    if split_name(path.name)[1] is not None:
        raise ConfigurationError(
            f"{path.name!r}: leave the version out; each training takes the next one"
        )
    return path.with_name(f"{path.name}@{max(_numbered(path), default=0) + 1}")


def unfinished_versions(path: Path) -> list[Path]:
    """Runs of the name ``path`` that were begun and not finished, newest first."""
    numbered = _numbered(path)
    return [
        numbered[version]
        for version in sorted(numbered, reverse=True)
        if not (numbered[version] / MANIFEST).is_file()
    ]


def read_manifest(folder: Path) -> RunManifest:
    """Read ``run.json``.

    Raises:
        ModelFormatError: it is damaged, or of a newer format.
        ModelNotFoundError: there is none.
    """
    file = folder / MANIFEST
    values = read_json(file, MAX_MANIFEST_BYTES)
    try:
        if values.pop("format_version") != FORMAT_VERSION:
            raise ModelFormatError(
                f"this version of Lepton reads run format {FORMAT_VERSION} only", file=file
            )
        config = TrainingConfig.from_json(values.pop("config"))
        labels, columns = tuple(values.pop("labels")), tuple(values.pop("text_columns", ()))
        manifest = RunManifest(config=config, labels=labels, text_columns=columns, **values)
    except (KeyError, TypeError, AttributeError, ConfigurationError) as error:
        raise ModelFormatError(f"not a run's description: {error}", file=file) from error
    _check(manifest, file)
    return manifest


def check_columns(manifest: RunManifest, columns: Sequence[str]) -> None:
    """Raise DataError where a model of texts of several columns gets another number of them."""
    wanted = manifest.config.fields
    if wanted > 1 and len(columns) != wanted:
        known = f" ({', '.join(manifest.text_columns)})" if manifest.text_columns else ""
        raise DataError(
            f"{manifest.full_name} reads texts of {wanted} columns{known}, and here are "
            f"{len(columns)} ({', '.join(columns)}): name each with --text"
        )


def write_manifest(folder: Path, manifest: RunManifest) -> None:
    """Finish a run: write ``run.json`` whole or not at all."""
    values = {"format_version": FORMAT_VERSION, **asdict(manifest)}
    values["config"] = manifest.config.as_json()
    write_json(folder / MANIFEST, values)


def read_json(file: Path, limit: int) -> dict[str, Any]:
    """Read a JSON object of at most ``limit`` bytes; raises as `read_manifest` does."""
    try:
        if file.stat().st_size > limit:
            raise ModelFormatError(f"larger than the {limit:,} bytes allowed", file=file)
        values = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelNotFoundError(f"{file.parent} has no {file.name}") from None
    except OSError as error:
        raise ModelNotFoundError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"not valid JSON: {error}", file=file) from error
    if not isinstance(values, dict):
        raise ModelFormatError("not a JSON object", file=file)
    return values


def write_json(file: Path, values: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Write a JSON object so that the file is whole whenever it is there."""
    text = json.dumps(values, ensure_ascii=False, indent=indent)
    write_text(file, text + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a text file so that it is whole whenever it is there."""
    with replaced(file) as part:
        part.write_text(text, encoding="utf-8", errors="surrogatepass")


def write_tensors(file: Path, tensors: Tensors) -> None:
    """Write float32 tensors as safetensors, whole or not at all."""
    content = save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    with replaced(file) as part:
        part.write_bytes(content)


def read_tensors(file: Path, shapes: Mapping[str, Sequence[int | None]]) -> Tensors:
    """Read float32 tensors and check their shapes; None stands for any length.

    Raises:
        ModelFormatError: the file is damaged, or a tensor is missing or of another shape or type.
        ModelNotFoundError: there is no such file.
    """
    try:
        tensors: Tensors = load_file(file)
    except FileNotFoundError:
        raise ModelNotFoundError(f"{file.parent} has no {file.name}") from None
    except (SafetensorError, OSError) as error:
        raise ModelFormatError(f"not a valid safetensors file: {error}", file=file) from error
    for name, shape in shapes.items():
        if name not in tensors:
            raise ModelFormatError("the run has no such tensor", file=file, tensor=name)
        found = tensors[name]
        fits = len(found.shape) == len(shape) and all(
            wanted in (None, length) for wanted, length in zip(shape, found.shape, strict=True)
        )
        if not fits or found.dtype != np.float32:
            wanted = "×".join("any" if length is None else str(length) for length in shape)
            raise ModelFormatError(
                f"is {found.dtype} {found.shape}, expected float32 {wanted}", file=file, tensor=name
            )
        if not np.isfinite(found).all():
            raise ModelFormatError("holds values that are not finite", file=file, tensor=name)
    return tensors


def cannot_write(path: Path, error: OSError) -> ConfigurationError:
    """The error for a disk that is full or a folder that may not be written."""
    return ConfigurationError(
        f"{path} cannot be written: {error.strerror or error}; what was finished before is kept"
    )


def _numbered(path: Path) -> dict[int, Path]:
    if not path.parent.is_dir():
        return {}
    found = {}
    for folder in path.parent.glob(f"{_escaped(path.name)}@*"):
        name, version = split_name(folder.name)
        if name == path.name and version is not None and folder.is_dir():
            found[version] = folder
    return dict(sorted(found.items()))


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _check(manifest: RunManifest, file: Path) -> None:
    numbers = ("temperature", "threshold", "target_mean", "target_scale")
    bad = [
        name
        for name, fits in (
            ("method", manifest.method in METHODS),
            ("objective", manifest.objective in OBJECTIVES),
            ("labels", all(isinstance(label, str) for label in manifest.labels)),
            ("text_columns", all(isinstance(name, str) for name in manifest.text_columns)),
            ("name", isinstance(manifest.name, str)),
            ("version", isinstance(manifest.version, int)),
            ("model", isinstance(manifest.model, dict)),
            *((name, isinstance(getattr(manifest, name), int | float)) for name in numbers),
        )
        if not fits
    ]
    if bad or not manifest.temperature > 0:
        raise ModelFormatError(f"{', '.join(bad) or 'temperature'} cannot be used", file=file)
    if (manifest.objective == "regression") != (not manifest.labels):
        raise ModelFormatError("labels and objective do not fit together", file=file)
