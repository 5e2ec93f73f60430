from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lepton.engine.ordering import throughput_order

PROMPTS = st.lists(st.lists(st.integers(0, 2), max_size=40), max_size=20)


@given(PROMPTS)
def test_every_prompt_has_one_place(prompts: list[list[int]]) -> None:
    assert sorted(throughput_order(prompts)) == list(range(len(prompts)))


def test_prompts_that_begin_alike_follow_each_other_and_long_ones_come_first() -> None:
    template = [7] * 20
    one, other = [1] * 32, [2] * 32
    prompts = [
        template + one + [3],
        template + other + [3],
        template + [4] * 5,
        template + other + [5] * 90,
        template + one + [6],
        template + [8] * 200,
    ]
    assert throughput_order(prompts) == [5, 1, 3, 0, 4, 2]
