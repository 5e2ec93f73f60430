from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lepton.engine.text import StopMatcher, TextStream

texts = st.text("abc ", max_size=30)
stop_strings = st.lists(st.text("abc ", min_size=1, max_size=5), max_size=4).map(tuple)


def expected(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The slow way: read character by character until the text ends with a stop string."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@given(texts, stop_strings, st.data())
def test_result_does_not_depend_on_the_pieces(
    text: str, stops: tuple[str, ...], data: st.DataObject
) -> None:
    matcher = StopMatcher(stops)
    emitted, rest = "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        emitted += matcher.add(rest[:size])
        assert text.startswith(emitted)
        rest = rest[size:]
    emitted += matcher.flush()
    assert (emitted, matcher.stopped) == expected(text, stops)
    assert not any(stop in emitted for stop in stops)


@given(texts, stop_strings)
def test_nothing_is_held_without_need(text: str, stops: tuple[str, ...]) -> None:
    matcher = StopMatcher(stops)
    emitted = ""
    for end, character in enumerate(text, start=1):
        emitted += matcher.add(character)
        if matcher.stopped:
            return
        held = text[len(emitted) : end]
        assert not held or any(stop.startswith(held) for stop in stops)


def test_text_after_a_stop_is_dropped() -> None:
    matcher = StopMatcher(("ab",))
    assert matcher.add("xa") == "x"
    assert matcher.add("by") == ""
    assert matcher.add("z") == ""
    assert matcher.flush() == ""


def test_incomplete_characters_are_flushed_through_the_matcher(toy: Any) -> None:
    first_byte = toy.PIECES.index("汉".encode()[:1])
    stream = TextStream(toy.PieceTokenizer().detokenizer(), ("\ufffd",))
    assert stream.add(2) == "a"
    assert stream.add(first_byte) == ""
    assert stream.flush() == ""
    assert stream.stopped


def test_stops_may_pass_unmatched(toy: Any) -> None:
    stream = TextStream(toy.PieceTokenizer().detokenizer(), ("ab",))
    assert stream.add(2, match_stops=False) == "a"
    assert stream.add(3, match_stops=False) == "b"
    assert stream.add(2) == ""
    assert stream.add(4) == "ac"
