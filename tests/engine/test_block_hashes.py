from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lepton.engine.block_hashes import BlockHashes
from lepton.models.executors.base import BLOCK_SIZE

tokens = st.lists(st.integers(0, 2**31 - 1), min_size=4 * BLOCK_SIZE, max_size=4 * BLOCK_SIZE)


@given(tokens=tokens, steps=st.lists(st.integers(0, 4), max_size=4))
def test_hashes_do_not_depend_on_when_they_are_asked_for(
    tokens: list[int], steps: list[int]
) -> None:
    whole = BlockHashes("a").upto(4, tokens)
    grown = BlockHashes("a")
    for count in steps:
        assert grown.upto(count, tokens[: count * BLOCK_SIZE]) == whole[:count]
    assert grown.copy().upto(4, tokens) == whole


@given(tokens=tokens, place=st.integers(0, 4 * BLOCK_SIZE - 1))
def test_a_token_changes_its_block_and_all_later_ones(tokens: list[int], place: int) -> None:
    changed = list(tokens)
    changed[place] ^= 1
    block = place // BLOCK_SIZE
    before, after = BlockHashes("a").upto(4, tokens), BlockHashes("a").upto(4, changed)
    assert before[:block] == after[:block]
    assert not set(before[block:]) & set(after[block:])


def test_salts_have_nothing_in_common() -> None:
    tokens = list(range(2 * BLOCK_SIZE))
    assert not set(BlockHashes("a").upto(2, tokens)) & set(BlockHashes("b").upto(2, tokens))


def test_copies_go_on_their_own() -> None:
    tokens = list(range(2 * BLOCK_SIZE))
    first = BlockHashes("a")
    first.upto(1, tokens)
    second = first.copy()
    assert (
        first.upto(2, tokens)[1] != second.upto(2, [*tokens[:BLOCK_SIZE], *tokens[:BLOCK_SIZE]])[1]
    )
