"""A folder in the layout of the Hugging Face hub as a checkpoint.

It holds ``config.json`` and either ``model.safetensors`` or several files listed in
``model.safetensors.index.json``. The ``safetensors`` library reads and validates each header
(https://github.com/huggingface/safetensors#format); it guarantees that the tensors fill the data
section without gaps, so their places follow from their order, and the bytes are then served from
our own mapping without a copy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from lepton.errors import ModelFormatError, ModelNotFoundError
from lepton.kernels.quants import TensorType, row_bytes
from lepton.models.weights.checkpoint import Checkpoint, TensorInfo
from lepton.models.weights.mapped_file import MappedFile

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

MAX_CONFIG_BYTES = 4 << 20
MAX_INDEX_BYTES = 16 << 20
MAX_HEADER_BYTES = 16 << 20

_TYPES = {"F32": TensorType.F32, "F16": TensorType.F16, "BF16": TensorType.BF16}
# Buffers of positions and counters that some exporters leave in; no weight has these types.
_PASSED_OVER = {"I64": 8, "BOOL": 1}


@dataclass(frozen=True)
class _Place:
    """Where a tensor's bytes are."""

    info: TensorInfo
    file: MappedFile
    start: int


class SafetensorsCheckpoint(Checkpoint):
    """A folder of safetensors files with F32, F16 and BF16 weights.

    Integer buffers (I64, BOOL), which hold positions and counters, are not listed.

    Raises:
        ModelNotFoundError: a file is missing or cannot be read.
        ModelFormatError: a file is damaged, or a tensor has another type.
    """

    format: ClassVar[Literal["safetensors"]] = "safetensors"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = MappingProxyType(_read_json(path / CONFIG_FILE, MAX_CONFIG_BYTES))
        self._files: list[MappedFile] = []
        try:
            self._places = self._read_places()
        except BaseException:
            self.close()
            raise
        self.tensors = MappingProxyType({name: place.info for name, place in self._places.items()})

    def raw(self, name: str) -> npt.NDArray[np.uint8]:  # noqa: D102
        info = self.info(name)
        place = self._places[name]
        return place.file.view(place.start, info.nbytes)

    def release_pages(self) -> None:  # noqa: D102
        for file in self._files:
            file.release_pages()

    def close(self) -> None:  # noqa: D102
        for file in self._files:
            file.close()

    def _read_places(self) -> dict[str, _Place]:
        index = self.path / INDEX_FILE
        if not index.exists():
            return self._read_file(self.path / WEIGHTS_FILE)
        names_of_shard = _read_index(index)
        places: dict[str, _Place] = {}
        for shard, names in sorted(names_of_shard.items()):
            found = self._read_file(self.path / shard, needed=names)
            places.update({name: found[name] for name in names if name in found})
        return places

    def _read_file(self, path: Path, needed: Iterable[str] = ()) -> dict[str, _Place]:
        file = MappedFile(path)
        self._files.append(file)
        position = 8 + _header_bytes(file)
        places: dict[str, _Place] = {}
        for name, dtype, shape in _read_header(path, needed):
            if dtype in _TYPES:
                tensor_type = _TYPES[dtype]
                nbytes = math.prod(shape) * row_bytes(tensor_type, 1)
                info = TensorInfo(name, tensor_type, shape, nbytes)
                places[name] = _Place(info, file, position)
            elif dtype in _PASSED_OVER:
                nbytes = math.prod(shape) * _PASSED_OVER[dtype]
            else:
                raise ModelFormatError(
                    f"type {dtype} is not supported; supported are {', '.join(_TYPES)}",
                    file=path,
                    tensor=name,
                    offset=position,
                )
            position += nbytes
        if position != file.size:
            raise ModelFormatError(
                f"the tensors end here but the file has {file.size:,} bytes",
                file=path,
                offset=position,
            )
        return places


def _header_bytes(file: MappedFile) -> int:
    """Read the length of the header, the first eight bytes of the file."""
    length = int.from_bytes(file.mapping[:8], "little")
    if length > min(file.size - 8, MAX_HEADER_BYTES):
        raise ModelFormatError(
            f"the header is said to take {length:,} bytes; the file has {file.size:,} and "
            f"{MAX_HEADER_BYTES:,} are allowed. The file is damaged or was not downloaded "
            "completely",
            file=file.path,
            offset=0,
        )
    return length


def _read_header(path: Path, needed: Iterable[str]) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return name, type and shape of every tensor in the order of their data."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.offset_keys()
            missing = sorted(set(needed).difference(names))
            if missing:
                raise ModelFormatError(
                    f"{INDEX_FILE} places this tensor here but the file does not have it",
                    file=path,
                    tensor=missing[0],
                )
            described = []
            for name in names:
                part = file.get_slice(name)
                described.append((name, part.get_dtype(), tuple(part.get_shape())))
            return described
    except SafetensorError as error:
        raise ModelFormatError(f"not a valid safetensors file: {error}", file=path) from error
    except OSError as error:
        raise ModelNotFoundError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_index(path: Path) -> dict[str, list[str]]:
    """Return the tensor names of each shard; a shard must be a plain file name."""
    weight_map = _read_json(path, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFormatError("there is no 'weight_map' in it", file=path)
    names_of_shard: dict[str, list[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _is_shard_name(shard):
            raise ModelFormatError(
                f"{str(shard)[:80]!r} is not the name of a .safetensors file in this folder",
                file=path,
                tensor=name,
            )
        names_of_shard.setdefault(shard, []).append(name)
    return names_of_shard


def _is_shard_name(shard: str) -> bool:
    # A surrogate, which JSON can spell, or a NUL is not printable and no path can have it.
    plain = shard == Path(shard).name and "\\" not in shard and shard.isprintable()
    return plain and shard.endswith(".safetensors")


def _read_json(path: Path, limit: int) -> dict[str, Any]:
    """Read a JSON object from a file of at most ``limit`` bytes."""
    try:
        if not path.is_file():
            raise ModelNotFoundError(f"{path.parent} has no {path.name}")
        with path.open("rb") as file:
            text = file.read(limit + 1)
    except OSError as error:
        raise ModelNotFoundError(f"{path} cannot be read: {error.strerror}") from error
    if len(text) > limit:
        raise ModelFormatError(f"larger than the {limit:,} bytes allowed", file=path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"not valid JSON: {error}", file=path) from error
    if not isinstance(value, dict):
        raise ModelFormatError("not a JSON object", file=path)
    return value
