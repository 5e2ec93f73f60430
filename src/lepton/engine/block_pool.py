"""The blocks of the KV cache, and who holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lepton.models.executors.base import BLOCK_SIZE


def blocks_for(num_tokens: int) -> int:
    """Blocks that ``num_tokens`` positions take."""
    return -(-num_tokens // BLOCK_SIZE)


class BlockPool:
    """Reference-counted block numbers with a free list. Mutated by the step loop only."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._references = [0] * num_blocks

    @property
    def num_free(self) -> int:
        """Blocks nobody holds."""
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """``count`` fresh blocks with one reference each; the caller has checked ``num_free``."""
        if count > len(self._free):
            raise ValueError(f"{count} blocks asked for, {len(self._free)} are free")
        blocks = [self._free.pop() for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """Add a reference to blocks that are in use. Their content must not change any more."""
        for block in blocks:
            if self._references[block] == 0:
                raise ValueError(f"block {block} is free and cannot be shared")
            self._references[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Drop one reference of each block; a block without references is free again."""
        for block in blocks:
            if self._references[block] == 0:
                raise ValueError(f"block {block} is already free")
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free.append(block)

    def check_integrity(self, block_tables: Iterable[Iterable[int]]) -> None:
        """Raise AssertionError unless the tables account for every reference; used by tests."""
        held = Counter(block for table in block_tables for block in table)
        for block, references in enumerate(self._references):
            if references != held[block]:
                raise AssertionError(
                    f"block {block} has {references} references, {held[block]} tables hold it"
                )
        expected_free = {block for block in range(self.num_blocks) if not held[block]}
        if len(self._free) != len(expected_free) or set(self._free) != expected_free:
            raise AssertionError("the free list does not match the blocks without references")
