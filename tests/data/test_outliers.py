from __future__ import annotations

import random

from lepton.data.outliers import StrangeLetters, length_limit


def test_the_limit_leaves_usual_lengths_and_cuts_far_ones() -> None:
    lengths = [*range(10, 60), 4000]
    limit = length_limit(lengths)
    assert 60 < limit < 4000
    assert length_limit([20] * 100) == 80
    assert length_limit([]) == 1


def test_letters_that_occur_nowhere_else() -> None:
    rng = random.Random(1)
    sentence = "where is my parcel when will the order be sent to the new house"
    words = sentence.split()
    letters = StrangeLetters()
    texts = [" ".join(rng.choices(words, k=8)) for _ in range(300)]
    for text in (*texts, "zqxjkvbwpfzqhgx"):
        letters.add(text)
    assert letters.strange("zqxjkvbwpfzqhgx")
    assert not any(letters.strange(text) for text in texts)


def test_few_texts_have_no_strange_ones() -> None:
    letters = StrangeLetters()
    letters.add("zqxjkvbwpfzqhgx")
    assert not letters.strange("zqxjkvbwpfzqhgx")
