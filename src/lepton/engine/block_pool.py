"""The blocks of the KV cache: who holds them, and what those hold that nobody does."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from lepton.engine.block_spill import BlockSpill
from lepton.models.executors.base import BLOCK_SIZE


def blocks_for(num_tokens: int) -> int:
    """Blocks that ``num_tokens`` positions take."""
    return -(-num_tokens // BLOCK_SIZE)


class BlockPool:
    """Reference-counted block numbers; full blocks can be found by the hash of their content.

    A block without references is blank, or cached: its content stays until the block is needed for
    something else, the least recently used first. Mutated by the step loop only.
    """

    def __init__(self, num_blocks: int, spill: BlockSpill | None = None) -> None:
        """``spill`` keeps what has to give way; whoever shares blocks may ask it first."""
        self.num_blocks = num_blocks
        self.spill = spill
        self.num_evictions = 0
        self.store_seconds = 0.0
        """Time that copying to the spill has taken."""
        self._blank = list(range(num_blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()
        """Unreferenced blocks that have a hash, the least recently used first."""
        self._references = [0] * num_blocks
        self._hashes: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}

    @property
    def num_free(self) -> int:
        """Blocks nobody holds, cached ones among them."""
        return len(self._blank) + len(self._cached)

    @property
    def num_cached(self) -> int:
        """Blocks nobody holds whose content can be found again."""
        return len(self._cached)

    def num_exclusive(self, blocks: Iterable[int]) -> int:
        """How many of these blocks would become free if one reference of each were dropped."""
        return sum(self._references[block] == 1 for block in blocks)

    def num_unreferenced(self, blocks: Iterable[int]) -> int:
        """How many of these blocks nobody holds."""
        return sum(self._references[block] == 0 for block in blocks)

    def allocate(self, count: int) -> list[int]:
        """``count`` fresh blocks with one reference each; the caller has checked ``num_free``."""
        if count > self.num_free:
            raise ValueError(f"{count} blocks asked for, {self.num_free} are free")
        missing = max(0, count - len(self._blank))
        blocks = [self._blank.pop() for _ in range(count - missing)]
        evicted = [self._evict() for _ in range(missing)]
        if self.spill is not None and evicted:
            started = time.perf_counter()
            self.spill.store(evicted)
            self.store_seconds += time.perf_counter() - started
        blocks += [block for _, block in evicted]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def find(self, hashes: Iterable[bytes]) -> list[int]:
        """The blocks of the longest run of hashes, from the first, whose content is held."""
        blocks = []
        for each in hashes:
            block = self._block_of.get(each)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """Add a reference to blocks in use or cached. Their content must not change any more."""
        for block in blocks:
            if self._references[block] == 0:
                if self._hashes[block] is None:
                    raise ValueError(f"block {block} is free and cannot be shared")
                del self._cached[block]
            self._references[block] += 1

    def publish(self, block: int, content: bytes) -> None:
        """Let a held block, full and never to change again, be found by the hash of its content.

        Of several blocks with the same content the first is found, as long as it lasts.
        """
        if self._references[block] == 0:
            raise ValueError(f"block {block} is free and cannot be published")
        if self._hashes[block] is None and content not in self._block_of:
            self._hashes[block] = content
            self._block_of[content] = block

    def forget(self, blocks: Iterable[int]) -> None:
        """Let the content of blocks not be found any more; whoever holds them keeps them."""
        for block in blocks:
            content = self._hashes[block]
            if content is None:
                continue
            self._hashes[block] = None
            del self._block_of[content]
            if self.spill is not None:
                self.spill.discard(content)
            if self._references[block] == 0:
                del self._cached[block]
                self._blank.append(block)

    def release(self, blocks: Sequence[int]) -> None:
        """Drop one reference of each block; a block without references is free again.

        ``blocks`` in the order of their positions: later ones are evicted before those that lead
        to them.
        """
        for block in reversed(blocks):
            if self._references[block] == 0:
                raise ValueError(f"block {block} is already free")
            self._references[block] -= 1
            if self._references[block] == 0:
                if self._hashes[block] is None:
                    self._blank.append(block)
                else:
                    self._cached[block] = None

    def check_integrity(self, block_tables: Iterable[Iterable[int]]) -> None:
        """Raise AssertionError unless the tables account for every reference; used by tests."""
        held = Counter(block for table in block_tables for block in table)
        for block, references in enumerate(self._references):
            if references != held[block]:
                raise AssertionError(
                    f"block {block} has {references} references, {held[block]} tables hold it"
                )
        free = [*self._blank, *self._cached]
        expected_free = {block for block in range(self.num_blocks) if not held[block]}
        if len(free) != len(expected_free) or set(free) != expected_free:
            raise AssertionError("the free list does not match the blocks without references")
        named = {content: block for block, content in enumerate(self._hashes) if content}
        if named != self._block_of:
            raise AssertionError("the hashes of blocks do not match the blocks found by hash")
        if any(self._hashes[block] for block in self._blank) or not all(
            self._hashes[block] for block in self._cached
        ):
            raise AssertionError("a blank block has a hash, or a cached one has none")

    def _evict(self) -> tuple[bytes, int]:
        """The block that was used the longest ago, and the hash that it is no longer found by."""
        block, _ = self._cached.popitem(last=False)
        content = self._hashes[block]
        assert content is not None  # noqa: S101
        del self._block_of[content]
        self._hashes[block] = None
        self.num_evictions += 1
        return content, block
