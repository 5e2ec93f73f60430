from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lepton.engine.block_pool import BlockPool, blocks_for


def test_blocks_for() -> None:
    assert [blocks_for(count) for count in (0, 1, 16, 17, 32, 33)] == [0, 1, 1, 2, 2, 3]


def test_shared_blocks_are_freed_with_their_last_reference() -> None:
    pool = BlockPool(4)
    table = pool.allocate(3)
    pool.share(table[:2])
    pool.check_integrity([table, table[:2]])
    pool.release(table)
    assert pool.num_free == 2
    pool.check_integrity([table[:2]])
    pool.release(table[:2])
    assert pool.num_free == 4
    assert sorted(pool.allocate(4)) == [0, 1, 2, 3]


def test_misuse_is_refused_and_changes_nothing() -> None:
    pool = BlockPool(2)
    with pytest.raises(ValueError, match="3 blocks asked for, 2 are free"):
        pool.allocate(3)
    with pytest.raises(ValueError, match="already free"):
        pool.release([0])
    with pytest.raises(ValueError, match="cannot be shared"):
        pool.share([1])
    pool.check_integrity([])


def test_integrity_check_finds_leaks() -> None:
    pool = BlockPool(3)
    table = pool.allocate(2)
    with pytest.raises(AssertionError, match="1 references, 0 tables"):
        pool.check_integrity([table[:1]])
    with pytest.raises(AssertionError, match="1 references, 2 tables"):
        pool.check_integrity([table, table])
    pool._blank.pop()
    with pytest.raises(AssertionError, match="free list"):
        pool.check_integrity([table])


def test_published_blocks_are_found_until_they_are_needed() -> None:
    pool = BlockPool(4)
    table = pool.allocate(3)
    for block, content in zip(table, (b"a", b"b", b"c"), strict=True):
        pool.publish(block, content)
    assert pool.find([b"a", b"b", b"x", b"c"]) == table[:2]
    pool.release(table)
    pool.check_integrity([])
    assert (pool.num_free, pool.num_cached) == (4, 3)
    assert pool.find([b"a", b"b", b"c"]) == table
    pool.allocate(2)  # The blank one, then the end of what was released.
    assert pool.find([b"a", b"b", b"c"]) == table[:2]
    assert pool.num_evictions == 1
    pool.share(table[:1])
    assert pool.num_cached == 1
    pool.allocate(1)
    assert pool.find([b"a", b"b"]) == table[:1]
    with pytest.raises(ValueError, match="1 blocks asked for, 0 are free"):
        pool.allocate(1)


def test_the_least_recently_used_goes_first() -> None:
    pool = BlockPool(2)
    for content in (b"a", b"b"):
        (block,) = pool.allocate(1)
        pool.publish(block, content)
        pool.release([block])
    found = pool.find([b"a"])
    pool.share(found)
    pool.release(found)
    pool.allocate(1)
    assert pool.find([b"a"])
    assert not pool.find([b"b"])


def test_equal_content_is_found_once_and_forgotten_content_not() -> None:
    pool = BlockPool(3)
    first, second, third = pool.allocate(3)
    pool.publish(first, b"a")
    pool.publish(second, b"a")
    assert pool.find([b"a"]) == [first]
    pool.release([second])
    assert pool.num_cached == 0
    pool.forget([first, third])
    assert pool.find([b"a"]) == []
    pool.check_integrity([[first, third]])
    pool.publish(third, b"a")
    pool.release([third])
    pool.forget([third])
    assert (pool.num_cached, pool.num_free) == (0, 2)
    with pytest.raises(ValueError, match="cannot be published"):
        pool.publish(third, b"b")
    pool.check_integrity([[first]])


class PoolMachine(RuleBasedStateMachine):
    """Random tables over a small pool; contents stand for the blocks' whole history."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(6)
        self.tables: list[list[int]] = []
        self.written: dict[int, bytes] = {}

    @rule(count=st.integers(0, 3), content=st.integers(0, 5))
    def allocate(self, count: int, content: int) -> None:
        if count > self.pool.num_free:
            return
        table = self.pool.allocate(count)
        for place, block in enumerate(table):
            self.written[block] = bytes([content, place])
            self.pool.publish(block, self.written[block])
        self.tables.append(table)

    @rule(content=st.integers(0, 5))
    def share(self, content: int) -> None:
        hashes = [bytes([content, place]) for place in range(3)]
        found = self.pool.find(hashes)
        assert [self.written[block] for block in found] == hashes[: len(found)]
        self.pool.share(found)
        self.tables.append(found)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.tables:
            index = data.draw(st.integers(0, len(self.tables) - 1))
            self.pool.release(self.tables.pop(index))

    @rule(block=st.integers(0, 5))
    def forget(self, block: int) -> None:
        self.pool.forget([block])

    @invariant()
    def whole(self) -> None:
        self.pool.check_integrity(self.tables)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
