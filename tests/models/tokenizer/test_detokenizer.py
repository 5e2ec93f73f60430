from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.models.tokenizer import Detokenizer, Tokenizer

TEXTS = ["北京，𠮷野家", "👩‍👩‍👧‍👦🇨🇳", "é à la carte", "龘龖 mixed 文字", "plain"]


def stream(detokenizer: Detokenizer, ids: list[int]) -> tuple[list[str], str]:
    return [detokenizer.add(token) for token in ids], detokenizer.flush()


def detokenizer_of(pieces: list[bytes], *, strip: bool = False) -> Detokenizer:
    return Detokenizer(pieces.__getitem__, strip_leading_space=strip)


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
@pytest.mark.parametrize("text", TEXTS)
def test_only_whole_characters_come_out(
    name: str, text: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    ids = tokenizer.encode(text, add_special_tokens=False)
    deltas, rest = stream(tokenizer.detokenizer(), ids)
    assert "".join(deltas) == text
    assert rest == ""


def test_characters_are_cut_between_tokens(smollm2: Tokenizer) -> None:
    """The check above is about something: here tokens do end inside characters."""
    ids = smollm2.encode("𠮷野家")
    deltas, _ = stream(smollm2.detokenizer(), ids)
    assert "" in deltas


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
@settings(deadline=None)
@given(data=st.data())
def test_deltas_add_up_to_decode(
    name: str, data: st.DataObject, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    ids = data.draw(
        st.lists(
            st.one_of(
                st.integers(0, tokenizer.vocab_size - 1),
                st.integers(0, 700),  # special tokens, and single bytes of both vocabularies
            ),
            max_size=40,
        )
    )
    for skip in (True, False):
        deltas, rest = stream(tokenizer.detokenizer(skip_special_tokens=skip), ids)
        assert "".join(deltas) + rest == tokenizer.decode(ids, skip_special_tokens=skip)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=5), max_size=30))
def test_any_bytes_decode_as_utf8(pieces: list[bytes]) -> None:
    deltas, rest = stream(detokenizer_of(pieces), list(range(len(pieces))))
    assert "".join(deltas) + rest == b"".join(pieces).decode("utf-8", "replace")


@settings(deadline=None)
@given(st.text(max_size=20), st.data())
def test_valid_text_never_shows_a_replacement(text: str, data: st.DataObject) -> None:
    encoded = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=20)))
    bounds = [0, *cuts, len(encoded)]
    pieces = [encoded[a:b] for a, b in itertools.pairwise(bounds)]
    deltas, rest = stream(detokenizer_of(pieces), list(range(len(pieces))))
    assert "".join(deltas) == text
    assert rest == ""


def test_an_unfinished_character_waits_for_flush() -> None:
    detokenizer = detokenizer_of(["好".encode()[:2]])
    assert detokenizer.add(0) == ""
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""


def test_bytes_that_cannot_become_a_character_do_not_hold_up_the_text() -> None:
    detokenizer = detokenizer_of([b"\xe5\xa5", b"ok", b"\xff"])
    assert [detokenizer.add(token) for token in range(3)] == ["", "\ufffdok", "\ufffd"]
    assert detokenizer.flush() == ""


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [([b" a", b" b"], "a b"), ([b"", b" ", b"a"], "a"), ([b"  a"], " a"), ([b"a", b" b"], "a b")],
)
def test_one_leading_space_is_stripped(pieces: list[bytes], expected: str) -> None:
    deltas, rest = stream(detokenizer_of(pieces, strip=True), list(range(len(pieces))))
    assert "".join(deltas) + rest == expected


def test_work_does_not_grow_with_the_text() -> None:
    """Each token's bytes are asked for once, however long the text has become."""
    asked = []

    def visible_bytes(token: int) -> bytes:
        asked.append(token)
        return b"\xe5" if token % 3 == 0 else b"\xa5"

    detokenizer = Detokenizer(visible_bytes, strip_leading_space=False)
    for token in range(3000):
        detokenizer.add(token)
    assert asked == list(range(3000))
