from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lepton.cli.markdown import CODE, HEADING, MarkdownStream, Piece


def _pieces(*texts: str) -> list[Piece]:
    """The styled pieces, with neighbours of one style joined."""
    stream = MarkdownStream()
    joined: list[Piece] = []
    for text in texts:
        joined.extend(stream.add(text))
    joined.extend(stream.finish())
    merged: list[Piece] = []
    for text, style in joined:
        if merged and merged[-1][1] == style:
            merged[-1] = (merged[-1][0] + text, style)
        else:
            merged.append((text, style))
    return merged


def test_plain_text_stays_as_it_is() -> None:
    assert _pieces("2 * 3 = 6, a_b, 你好\n") == [("2 * 3 = 6, a_b, 你好\n", "")]


def test_bold_and_code() -> None:
    assert _pieces("a **b** `c`") == [("a ", ""), ("b", "bold"), (" ", ""), ("c", CODE)]


def test_heading_ends_with_its_line() -> None:
    assert _pieces("## Title\ntext") == [("Title", HEADING), ("\ntext", "")]


def test_list_items_get_bullets() -> None:
    assert _pieces("- a\n* b\n1. c\n") == [("• a\n• b\n1. c\n", "")]


def test_fenced_code_is_left_alone() -> None:
    source = "```python\n# **x** `y`\n- z\n```\nafter **b**"
    assert _pieces(source) == [
        ("```python\n", "dim"),
        ("# **x** `y`", CODE),
        ("\n", ""),
        ("- z", CODE),
        ("\n", ""),
        ("```\n", "dim"),
        ("after ", ""),
        ("b", "bold"),
    ]


def test_styles_do_not_outlive_a_line() -> None:
    assert _pieces("a **b\nc") == [("a ", ""), ("b", "bold"), ("\nc", "")]


def test_text_appears_before_its_line_is_complete() -> None:
    stream = MarkdownStream()
    assert "".join(text for text, _ in stream.add("The capital of")) == "The capital of"


@given(st.text("ab *`#-\n1.", max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_pieces_do_not_depend_on_how_the_text_was_cut(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[start:end] for start, end in pairwise(places)]
    assert _pieces(*parts) == _pieces(text)


@given(st.text("ab *`#-\n1.", max_size=60))
def test_only_markers_are_lost(text: str) -> None:
    shown = "".join(piece for piece, _ in _pieces(text))
    assert re.sub(r"[*`#•\- ]", "", shown) == re.sub(r"[*`#\- ]", "", text)
