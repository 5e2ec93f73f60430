from __future__ import annotations

import pytest
from bench.lookup_bound import best


def test_what_copies_is_drafted_as_far_as_it_pays() -> None:
    prompt, answer = [1, 2, 3, 4, 5, 6, 7, 8, 9], [2, 3, 4, 5, 6, 7]
    free = best([(prompt, answer)], lambda rows: 1.0)
    assert (free.ratio, free.tokens_per_step) == (5, 5)
    dear = best([(prompt, answer)], lambda rows: float(rows) ** 2)
    assert (dear.ratio, dear.tokens_per_step) == (1, 1)
    stairs = best([(prompt, answer)], lambda rows: 1.0 if rows <= 2 else 10.0)
    assert stairs.tokens_per_step == pytest.approx(5 / 3)


def test_what_is_new_cannot_be_drafted() -> None:
    found = best([([1, 2, 3], [4, 5, 6, 7])], lambda rows: 1.0)
    assert (found.ratio, found.tokens_per_step) == (1, 1)


def test_a_loop_goes_on_into_what_it_has_guessed() -> None:
    found = best([([1, 2], [1, 2, 1, 2, 1, 2, 1])], lambda rows: 1.0)
    assert found.tokens_per_step == 6


def test_the_whole_answer_counts_and_not_the_best_next_step() -> None:
    costs = {1: 1.0, 2: 1.15, 3: 1.8, 4: 9.0}
    found = best([([1, 2, 3, 4], [1, 2, 3, 4])], costs.__getitem__)
    assert found.ratio == pytest.approx(3 / 1.8)
