"""Blocks that had to leave the cache, kept in a file until they are wanted again."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lepton.engine.config import EngineConfig
from lepton.errors import ConfigurationError
from lepton.models.executors.base import Executor, UInt8Array

logger = logging.getLogger(__name__)

MOST_UNWRITTEN = 64
"""Copies that may wait for the disk; more push out those that have waited longest. A prompt's
blocks leave the cache from its end on, and only its beginning is of use without the rest."""
_STOP_SECONDS = 10.0


class BlockSpill:
    """A bounded file of blocks, found by the hash of their content; the least recently used go.

    The file has no name and is readable by nobody else, so that it is gone with the process. A
    thread writes, from copies, and the step loop never waits for it. The file is read and written
    at positions rather than mapped: the first error of the disk is then an exception, after which
    nothing is kept any more, and not a signal that ends the process.
    """

    def __init__(self, directory: Path, max_bytes: int, memory: UInt8Array) -> None:
        """Keep blocks of ``memory`` [blocks, bytes of one], the executor's, in ``directory``.

        Raises ConfigurationError when nothing can be written there or not a block fits.
        """
        self._memory = memory
        self._block_bytes = memory.shape[1]
        self._num_slots = max_bytes // self._block_bytes
        if self._num_slots < 1:
            raise ConfigurationError(
                f"cache_spill_bytes {max_bytes:,} is less than one block of {self._block_bytes:,}"
            )
        try:
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise ConfigurationError(f"cache_spill {directory}: {error.strerror}") from None
        self.num_hits = 0
        """Blocks that were copied back."""
        self._slots: OrderedDict[bytes, int] = OrderedDict()
        """Of the blocks in the file, the least recently used first."""
        self._unwritten: dict[bytes, UInt8Array] = {}
        """Copies that wait for the disk, the oldest first, and the one that is being written."""
        self._written: bytes | None = None
        """The hash of that one."""
        self._free = list(range(self._num_slots - 1, -1, -1))
        self._enabled = True
        self._closing = False
        self._lock = threading.Lock()
        """Guards all of the above; never held while something is written."""
        self._changed = threading.Condition(self._lock)
        """There is something to write, or there will be nothing more."""
        self._thread = threading.Thread(target=self._write_all, name="lepton-spill", daemon=True)
        self._thread.start()

    @property
    def num_blocks(self) -> int:
        """Blocks that can be found."""
        return len(self._slots) + len(self._unwritten)

    def __contains__(self, content: bytes) -> bool:
        """Whether a block is kept; reading it may still fail."""
        with self._lock:
            return content in self._unwritten or content in self._slots

    def store(self, evicted: Sequence[tuple[bytes, int]]) -> None:
        """Keep blocks of the cache that are about to be overwritten, with the hashes of each.

        Of many that are new the last ones only, as many as may wait for the disk.
        """
        with self._lock:
            new = []
            for content, block in evicted:
                if content in self._slots:
                    self._slots.move_to_end(content)
                elif self._enabled and content not in self._unwritten:
                    new.append((content, block))
            for content, block in new[-MOST_UNWRITTEN:]:
                if len(self._unwritten) >= MOST_UNWRITTEN:
                    del self._unwritten[
                        next(key for key in self._unwritten if key != self._written)
                    ]
                self._unwritten[content] = self._memory[block].copy()
            self._changed.notify()

    def load(self, content: bytes, block: int) -> bool:
        """Copy what is kept under a hash into a block of the cache; False if nothing is."""
        with self._lock:
            if content in self._unwritten:
                self._memory[block] = self._unwritten[content]
            elif content in self._slots and self._read(self._slots[content], block):
                self._slots.move_to_end(content)
            else:
                return False
            self.num_hits += 1
            return True

    def discard(self, content: bytes) -> None:
        """Forget a block."""
        with self._lock:
            self._unwritten.pop(content, None)
            slot = self._slots.pop(content, None)
            if slot is not None:
                self._free.append(slot)

    def clear(self) -> None:
        """Forget all blocks."""
        with self._lock:
            self._forget_all()

    def close(self) -> None:
        """Give the file and its thread up."""
        with self._lock:
            self._enabled = False
            self._forget_all()
            self._memory = np.empty((0, 0), dtype=np.uint8)
            self._closing = True
            self._changed.notify()
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            logger.error("the disk of the cache's spill hangs; its file is not closed")
        else:
            self._file.close()

    def check_integrity(self) -> None:
        """Raise AssertionError unless every slot is free or used once; used by tests when idle."""
        with self._lock:
            slots = [*self._slots.values(), *self._free]
            if sorted(slots) != list(range(self._num_slots)):
                raise AssertionError(f"slots of the spill are lost or used twice: {slots}")

    def _read(self, slot: int, block: int) -> bool:
        try:
            count = os.preadv(
                self._file.fileno(), [self._memory[block].data], slot * self._block_bytes
            )
            if count != self._block_bytes:
                raise OSError(None, f"{count} of {self._block_bytes} bytes were read")
        except OSError as error:
            self._disable(error)
            return False
        return True

    def _write_all(self) -> None:
        """Write what waits for the disk, the oldest first, until there is nothing more to come."""
        while True:
            with self._lock:
                while not self._unwritten and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                content, copy = next(iter(self._unwritten.items()))
                slot = self._free.pop() if self._free else self._slots.popitem(last=False)[1]
                self._written = content
            error = self._write(slot, copy)
            with self._lock:
                self._written = None
                # It may have been discarded meanwhile, and another with its hash have come.
                if error is None and self._unwritten.get(content) is copy:
                    del self._unwritten[content]
                    self._slots[content] = slot
                else:
                    self._free.append(slot)
                if error is not None:
                    self._disable(error)

    def _write(self, slot: int, copy: UInt8Array) -> OSError | None:
        try:
            written = 0
            while written < self._block_bytes:
                position = slot * self._block_bytes + written
                written += os.pwrite(self._file.fileno(), copy[written:].data, position)
        except OSError as error:
            return error
        return None

    def _disable(self, error: OSError) -> None:
        """Keep nothing any more."""
        if self._enabled:
            logger.error("the cache is no longer spilled to disk: %s", error.strerror or error)
        self._enabled = False
        self._forget_all()

    def _forget_all(self) -> None:
        self._free += self._slots.values()
        self._slots.clear()
        self._unwritten.clear()


def open_spill(config: EngineConfig, executor: Executor) -> BlockSpill | None:
    """The spill that a configuration asks for.

    Raises ConfigurationError as BlockSpill does, or when an executor's memory cannot be had.
    """
    if config.cache_spill is None:
        return None
    memory = getattr(executor, "cache", None)
    if memory is None:
        raise ConfigurationError("cache_spill needs the native executor")
    return BlockSpill(config.cache_spill, config.cache_spill_bytes, memory)
