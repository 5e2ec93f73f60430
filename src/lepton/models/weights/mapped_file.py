"""A read-only mapping of a whole file."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lepton.errors import ModelFormatError, ModelNotFoundError


class MappedFile:
    """A regular file mapped for reading, which notices when the file changes its size.

    Pages are read when they are touched. Should another process shorten the file between the
    check and the touch, the operating system ends this process with SIGBUS; no reader of mapped
    files can exclude that, so models must be replaced by renaming, never rewritten in place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._mapping: mmap.mmap | None = None
        try:
            # A device or a pipe must not be opened: that alone can block.
            if not stat.S_ISREG(path.stat().st_mode):
                raise ModelFormatError("this is not a regular file", file=path)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._descriptor).st_size
            if self.size == 0:
                raise ModelFormatError("the file is empty", file=path)
            self._mapping = mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ)
        except OSError as error:
            self.close()
            raise ModelNotFoundError(f"{path} cannot be read: {error.strerror}") from error
        except ModelFormatError:
            self.close()
            raise

    @property
    def mapping(self) -> mmap.mmap:
        """The mapping itself; raises ValueError once closed."""
        if self._mapping is None:
            raise ValueError(f"{self.path} is closed")
        return self._mapping

    def view(self, start: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return bytes ``[start, start + nbytes)`` as a read-only view.

        Raises:
            ModelFormatError: the file changed its size since it was opened.
            ValueError: the file is closed, or the bytes are not inside it.
        """
        mapping = self.mapping
        size = os.fstat(self._descriptor).st_size
        if size != self.size:
            raise ModelFormatError(
                f"the file changed from {self.size:,} to {size:,} bytes while it was in use; "
                "load the model again",
                file=self.path,
            )
        if not 0 <= start <= start + nbytes <= self.size:
            raise ValueError(f"bytes {start} to {start + nbytes} are outside {self.path}")
        if nbytes == 0:
            return np.frombuffer(b"", dtype=np.uint8)
        return np.frombuffer(mapping, dtype=np.uint8, count=nbytes, offset=start)

    def release_pages(self) -> None:
        """Give the memory of pages read so far back; they are read again when touched."""
        self.mapping.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Close the file; the memory is unmapped when the last view of it is gone."""
        mapping, self._mapping = self._mapping, None
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if mapping is not None:
            # While views are out the mapping stays, and goes with the last of them.
            with contextlib.suppress(BufferError):
                mapping.close()
