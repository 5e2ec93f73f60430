from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from lepton.cli.wrapping import WordWrap


def test_lines_break_between_words() -> None:
    wrap = WordWrap(10)
    pieces = ["one", " two", " three", " four"]
    assert "".join(map(wrap.add, pieces)) == "one two \nthree four"


def test_the_texts_own_line_breaks_count() -> None:
    wrap = WordWrap(10)
    assert wrap.add("12345678\n12345 678") == "12345678\n12345 678"


def test_a_word_in_pieces_stays_together() -> None:
    wrap = WordWrap(10)
    assert "".join(map(wrap.add, ["aaaa ", "bbbb", "bbbb"])) == "aaaa bbbbbbbb"


def test_wide_characters_take_two_columns() -> None:
    assert WordWrap(10).add("你好世 界人") == "你好世 \n界人"


def test_a_word_longer_than_the_line_is_left_to_the_terminal() -> None:
    assert WordWrap(4).add("abcdefghij kl") == "abcdefghij \nkl"
    assert WordWrap(4).add("abcd  ef") == "abcd\nef"


@given(st.lists(st.text("ab \n", max_size=12)), st.integers(5, 20))
def test_no_word_is_lost_and_whole_words_fit(pieces: list[str], width: int) -> None:
    wrap = WordWrap(width)
    shown = "".join(map(wrap.add, pieces))
    assert re.sub(r"[ \n]", "", shown) == re.sub(r"[ \n]", "", "".join(pieces))
    whole = WordWrap(width).add("".join(pieces))
    for line in whole.split("\n"):
        if all(len(word) <= width for word in line.split()):
            assert len(line) <= width
