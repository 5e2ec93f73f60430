from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pypinyin
import pytest

from lepton.data.rewriting import (
    METHODS,
    back_translation,
    delete,
    homophone,
    load_lexicon,
    swap,
    synonyms,
    typo,
)
from lepton.errors import DataError

ENGLISH = "Please send my parcel to Leeds quickly."
CHINESE = "我的快递怎么还没发货"


def test_synonyms_keep_the_rest_of_the_sentence() -> None:
    rewrite = synonyms({"parcel": ("package",), "快递": ("包裹",)})
    assert rewrite(ENGLISH, random.Random(0)) == "Please send my package to Leeds quickly."
    assert rewrite("Parcel lost", random.Random(0)) == "Package lost"
    assert rewrite(CHINESE, random.Random(0)) == "我的包裹怎么还没发货"
    assert rewrite("nothing known", random.Random(0)) == "nothing known"


def test_swap_keeps_the_words() -> None:
    swapped = swap(ENGLISH, random.Random(0))
    assert swapped != ENGLISH
    assert sorted(swapped.strip(".").split()) == sorted(ENGLISH.strip(".").split())


def test_delete_leaves_a_part_in_order() -> None:
    left = delete(ENGLISH, random.Random(0)).strip(".").split()
    words = iter(ENGLISH.strip(".").split())
    assert 0 < len(left) < 7
    assert all(any(word == other for other in words) for word in left)
    assert delete("two words", random.Random(0)) == "two words"


def test_homophones_sound_the_same() -> None:
    for seed in range(20):
        changed = homophone(CHINESE, random.Random(seed))
        different = [pair for pair in zip(CHINESE, changed, strict=True) if pair[0] != pair[1]]
        assert len(different) == 1
        before, after = different[0]
        sounds = [
            pypinyin.pinyin(character, style=pypinyin.Style.TONE3)[0][0]
            for character in (before, after)
        ]
        assert sounds[0] == sounds[1]


def test_typo_stays_inside_a_word() -> None:
    changed = typo(ENGLISH, random.Random(0))
    assert changed != ENGLISH
    assert abs(len(changed) - len(ENGLISH)) <= 1


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_rewrites_alike(name: str) -> None:
    method = METHODS[name]
    for text in (ENGLISH, CHINESE, "", "？", "ok"):
        assert method(text, random.Random(5)) == method(text, random.Random(5))


def test_back_translation_goes_there_and_back() -> None:
    rewrite = back_translation(
        lambda texts: [text.upper() for text in texts],
        lambda texts: [f"{text.lower()}!" for text in texts],
    )
    assert list(rewrite(["Hello"])) == ["hello!"]


def test_a_lexicon_of_ones_own(write: Callable[..., Path]) -> None:
    assert load_lexicon(write("l.txt", "# note\nParcel package box\n\n快递 包裹\n")) == {
        "parcel": ("package", "box"),
        "快递": ("包裹",),
    }
    with pytest.raises(DataError, match="line 1: a group needs two words"):
        load_lexicon(write("bad.txt", "alone\n"))
