from __future__ import annotations

import pytest

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
