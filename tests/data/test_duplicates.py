from __future__ import annotations

import random

from lepton.data import duplicate_groups, find_leaks, similar_pairs
from lepton.data.duplicates import shingles

TEXTS = [
    "How long does delivery to Leeds take?",
    "我的快递三天没有更新物流信息了",
    "",
    "how long does delivery to leeds take",
    "我的快递三天没有更新物流信息了，急",
    "Something else altogether",
    "  ",
]


def test_near_duplicates_are_found_and_empty_texts_are_not() -> None:
    pairs = [(pair.first, pair.second) for pair in similar_pairs(TEXTS)]
    assert pairs == [(0, 3), (1, 4)]


def test_groups_join_what_is_alike() -> None:
    assert duplicate_groups(TEXTS).tolist() == [0, 1, 2, 0, 1, 5, 6]


def test_every_pair_above_the_threshold_is_found_by_exact_comparison() -> None:
    rng = random.Random(0)
    words = [f"w{rng.randrange(10**6)}" for _ in range(400)]
    texts = [" ".join(rng.choices(words, k=12)) for _ in range(60)]
    for text in list(texts):
        changed = text.split()
        changed[rng.randrange(12)] = rng.choice(words)
        texts.append(" ".join(changed))
    sets = [shingles(text) for text in texts]

    def alike(first: int, second: int) -> float:
        return len(sets[first] & sets[second]) / len(sets[first] | sets[second])

    expected = {
        (first, second)
        for first in range(len(texts))
        for second in range(first + 1, len(texts))
        if alike(first, second) >= 0.8
    }
    assert len(expected) > 20
    assert {(pair.first, pair.second) for pair in similar_pairs(texts)} == expected


def test_leaks_name_the_most_alike_row_of_training() -> None:
    train = ["delivery to Leeds takes how long, please", "How long does delivery to Leeds take"]
    (leak,) = find_leaks(train, ["a", "b"], ["none like it", TEXTS[0]], ["x", "b"])
    assert (leak.train, leak.test, leak.similarity, leak.same_label) == (1, 1, 1.0, True)
