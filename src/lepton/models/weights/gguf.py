"""A single GGUF file as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from lepton.models.weights.checkpoint import Checkpoint
from lepton.models.weights.gguf_header import read_header
from lepton.models.weights.mapped_file import MappedFile


class GgufCheckpoint(Checkpoint):
    """A GGUF file: metadata read into memory, tensor data mapped.

    Raises:
        ModelNotFoundError: the file is missing or cannot be read.
        ModelFormatError: it is damaged, or uses what is not supported.
    """

    format: ClassVar[Literal["gguf"]] = "gguf"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)
        try:
            header = read_header(self._file.mapping, path)
        except BaseException:
            self._file.close()
            raise
        self.metadata = header.metadata
        self.tensors = header.tensors
        self._offsets = header.offsets

    def raw(self, name: str) -> npt.NDArray[np.uint8]:  # noqa: D102
        info = self.info(name)
        return self._file.view(self._offsets[name], info.nbytes)

    def release_pages(self) -> None:  # noqa: D102
        self._file.release_pages()

    def close(self) -> None:  # noqa: D102
        self._file.close()
