from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lepton.engine.prompt_lookup import LookupSource, PromptLookup

tokens = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def continued(history: list[int], source: int, count: int) -> list[int]:
    """What follows ``source``, a loop going on for ever."""
    text = list(history)
    for place in range(count):
        text.append(text[source + place])
    return text[len(history) :]


def drafts(
    history: list[int], cuts: list[int]
) -> Iterator[tuple[PromptLookup, list[int], list[int]]]:
    """A lookup that learns of a history cut by cut, what it knows then, and six tokens' draft."""
    lookup = PromptLookup()
    end = 0
    for cut in [*cuts, len(history)]:
        end = min(len(history), end + cut)
        known = history[:end]
        lookup.update(known)
        yield lookup, known, lookup.draft(known, 6)


@given(history=tokens, cuts=st.lists(st.integers(1, 5), max_size=20))
def test_a_draft_is_what_followed_the_same_tokens_before(
    history: list[int], cuts: list[int]
) -> None:
    for lookup, known, draft in drafts(history, cuts):
        end = len(known)
        repeated = known[-1] in known[:-1]
        assert len(draft) == (6 if repeated else 0)
        if draft:
            matching = lookup.num_matching
            assert matching >= 1
            sources = [
                source
                for source in range(matching, end)
                if known[source - matching : source] == known[end - matching :]
            ]
            assert draft in [continued(known, source, 6) for source in sources]


def test_longer_matches_are_preferred_and_followed() -> None:
    history = [9, 1, 2, 3, 4, 5, 6, 7, 8, 4, 5, 0, 1, 2, 3, 4, 5]
    lookup = PromptLookup()
    lookup.update(history)
    assert lookup.draft(history, 3) == [6, 7, 8]
    assert lookup.num_matching == 5
    history += [6, 7]
    lookup.update(history)
    assert lookup.draft(history, 2) == [8, 4]
    assert lookup.num_matching == 7


def test_nothing_is_guessed_from_parts_of_tokens() -> None:
    history = [0x01000000, 0x00000001, 0x00010000]
    lookup = PromptLookup()
    lookup.update(history)
    assert lookup.draft(history, 4) == []


@given(history=tokens, cuts=st.lists(st.integers(1, 5), max_size=20))
def test_what_went_on_otherwise_before_is_not_clear(history: list[int], cuts: list[int]) -> None:
    for lookup, known, draft in drafts(history, cuts):
        end = len(known)
        clear = lookup.num_clear(known, len(draft))
        assert 0 <= clear <= len(draft)
        if clear < len(draft):
            last = known[-1:]
            after = [
                known[place + 1] for place in range(end - 1) if known[place : place + 1] == last
            ]
            assert clear > 0 or len(set(after)) > 1


class Asking:
    """As much of a sequence as the source looks at."""

    def __init__(self, token_ids: list[int]) -> None:
        self.token_ids = token_ids


def test_the_class_of_a_guess_tells_whether_it_is_clear() -> None:
    source = LookupSource()
    sequence: Any = Asking([1, 2, 3, 9, 9, 1, 2, 3, 8, 7, 1, 2])
    (proposal,) = source.propose([sequence], [3])
    assert proposal.tokens == [3, 8, 7]
    clear_classes = len(source.expected) // 2
    assert [kind < clear_classes for kind in proposal.kinds] == [True, False, False]
    source.forget(sequence)
    assert not source._lookups
