"""What every weight format offers to the rest of the package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from lepton.errors import ModelFormatError
from lepton.kernels.quants import TensorType, dequantize, row_bytes


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, storage and size of one tensor.

    The shape is in numpy's row-major order: a matrix is (outputs, inputs).
    """

    name: str
    type: TensorType
    shape: tuple[int, ...]
    nbytes: int


class Checkpoint(ABC):
    """A model's weights, mapped from disk, and the metadata stored with them.

    ``metadata`` is the GGUF key/value table (arrays of numbers are read-only numpy arrays, arrays
    of strings are lists) or the contents of ``config.json``.
    """

    format: ClassVar[Literal["gguf", "safetensors", "e5"]]
    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    @abstractmethod
    def raw(self, name: str) -> npt.NDArray[np.uint8]:
        """Return the stored bytes of a tensor.

        The array is a read-only view ``[nbytes]`` of the mapped file; it stays valid after
        ``close``. The file must not be shortened while the view is in use: the operating system
        answers a read past the new end with SIGBUS. Each call compares the file's size with the
        one it was opened with and refuses a file that changed.

        Raises:
            ModelFormatError: there is no such tensor, or the file changed its size.
            ValueError: the checkpoint is closed.
        """

    @abstractmethod
    def release_pages(self) -> None:
        """Give back the memory of what was read so far; it is read again when touched."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files. Arrays handed out before remain valid."""

    def pieces(self, name: str, nbytes: int) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield a tensor's stored bytes, ``nbytes`` at a time, and give each piece's memory back.

        A piece must not be used once the next is asked for. Raises as ``raw`` does.
        """
        data = self.raw(name)
        for start in range(0, len(data), nbytes):
            yield data[start : start + nbytes]
            self.release_pages()

    def info(self, name: str) -> TensorInfo:
        """Return the description of a tensor.

        Raises:
            ModelFormatError: there is no such tensor.
        """
        try:
            return self.tensors[name]
        except KeyError:
            raise ModelFormatError(
                "the checkpoint has no such tensor", file=self.path, tensor=name
            ) from None

    def float32(self, name: str) -> npt.NDArray[np.float32]:
        """Decode a tensor to a new float32 array of its shape; raises as ``raw`` does."""
        info = self.info(name)
        return dequantize(info.type, self.raw(name), info.shape)

    def float32_rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Decode rows ``start`` … ``stop - 1`` of a matrix; raises as ``raw`` does."""
        info = self.info(name)
        stride = row_bytes(info.type, info.shape[1])
        rows = self.raw(name)[start * stride : stop * stride]
        return dequantize(info.type, rows, (stop - start, info.shape[1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
