"""Weights on disk: one interface over GGUF files, safetensors folders and the E5 container."""

from __future__ import annotations

from pathlib import Path

from lepton.errors import ModelFormatError, ModelNotFoundError
from lepton.models.weights.checkpoint import Checkpoint, TensorInfo
from lepton.models.weights.e5 import MAGIC as E5_MAGIC
from lepton.models.weights.e5 import E5Checkpoint
from lepton.models.weights.gguf import GgufCheckpoint
from lepton.models.weights.safetensors_folder import (
    INDEX_FILE,
    WEIGHTS_FILE,
    SafetensorsCheckpoint,
)

__all__ = [
    "Checkpoint",
    "E5Checkpoint",
    "GgufCheckpoint",
    "SafetensorsCheckpoint",
    "TensorInfo",
    "open_checkpoint",
]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a GGUF or E5 file, a folder that holds a GGUF file, or a safetensors folder.

    Raises:
        ModelNotFoundError: there is nothing at ``path``, or nothing that is a model.
        ModelFormatError: the model is damaged, ambiguous or in a format that is not supported.
    """
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            return _open_folder(path)
        if not path.exists():
            raise ModelNotFoundError(f"{path} does not exist")
    except OSError as error:
        raise ModelNotFoundError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix == ".safetensors":
        raise ModelFormatError(
            f"give the folder, {path.parent}, which also has config.json and the tokenizer",
            file=path,
        )
    if _begins_with(path, E5_MAGIC):
        return E5Checkpoint(path)
    if path.suffix in _PICKLES:
        raise _pickle_refusal(path)
    return GgufCheckpoint(path)


def _begins_with(path: Path, magic: bytes) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise ModelNotFoundError(f"{path} cannot be read: {error.strerror}") from error


def _open_folder(folder: Path) -> Checkpoint:
    files = sorted(folder.iterdir())
    gguf_files = [file for file in files if file.suffix == ".gguf"]
    has_safetensors = (folder / INDEX_FILE).exists() or (folder / WEIGHTS_FILE).exists()
    if len(gguf_files) + has_safetensors > 1:
        names = [file.name for file in gguf_files] + [WEIGHTS_FILE] * has_safetensors
        raise ModelFormatError(
            f"the folder holds several models ({', '.join(names[:8])}); give the path of one "
            "GGUF file, or keep only one",
            file=folder,
        )
    if gguf_files:
        return GgufCheckpoint(gguf_files[0])
    if has_safetensors:
        return SafetensorsCheckpoint(folder)
    pickles = [file for file in files if file.suffix in _PICKLES]
    if pickles:
        raise _pickle_refusal(pickles[0])
    raise ModelNotFoundError(
        f"{folder} holds no model: neither a .gguf file nor {WEIGHTS_FILE} or {INDEX_FILE}"
    )


def _pickle_refusal(path: Path) -> ModelFormatError:
    return ModelFormatError(
        "pickled weights can run code when they are opened and are not read; convert the model "
        "to safetensors or GGUF",
        file=path,
    )
