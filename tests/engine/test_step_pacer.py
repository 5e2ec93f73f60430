from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.engine.step_pacer import StepPacer, tokens_for, work


@given(available=st.floats(1, 1e5), start=st.integers(0, 100_000))
def test_as_many_tokens_as_the_work_allows(available: float, start: int) -> None:
    count = tokens_for(available, start)
    assert work(start, count) <= available * (1 + 1e-9) + 1e-3
    assert work(start, count + 1) > available * (1 - 1e-9)


def test_later_tokens_are_more_work() -> None:
    assert work(0, 100) + work(100, 50) == pytest.approx(work(0, 150))
    assert work(5000, 10) > 3 * work(0, 10)


def test_a_prompt_alone_is_read_for_a_second_at_a_time() -> None:
    pacer = StepPacer(0.1)
    assert pacer.prefill_work(0) == 64  # Nothing is known of the machine yet.
    pacer.note(0, 64.0, 0.64)
    assert pacer.prefill_work(0) == pytest.approx(100)
    for _ in range(20):
        pacer.note(0, 64.0, 1000.0)
    assert pacer.prefill_work(0) >= 16


def test_prompts_get_the_time_that_completions_leave() -> None:
    pacer = StepPacer(0.1)
    for _ in range(50):
        pacer.note(8, 0.0, 0.05)
        pacer.note(8, 100.0, 0.05 + 100 * 0.001)
    assert pacer.decode_seconds(8) == pytest.approx(0.05)
    assert pacer.prefill_work(8) == pytest.approx(50, rel=0.01)


@pytest.mark.parametrize(
    ("decode", "longest"), [(0.001, 0.02), (0.01, 0.025), (0.02, 0.05), (0.05, 0.1)]
)
def test_steps_that_read_prompts_are_not_many_times_as_long(decode: float, longest: float) -> None:
    pacer = StepPacer(0.1)
    for _ in range(50):
        pacer.note(8, 0.0, decode)
        pacer.note(8, 1000.0, decode + 1000 * 0.0001)
    assert pacer.prefill_work(8) == pytest.approx((longest - decode) / 0.0001, rel=0.01)


@pytest.mark.parametrize(
    ("prompts", "longest"), [(1, 0.025), (8, 0.025), (12, 0.05), (16, 0.075), (500, 0.1)]
)
def test_many_prompts_beside_few_streams_get_longer_steps(prompts: int, longest: float) -> None:
    pacer = StepPacer(0.1)
    for _ in range(50):
        pacer.note(8, 0.0, 0.01)
        pacer.note(8, 1000.0, 0.01 + 1000 * 0.0001)
    assert pacer.prefill_work(8, prompts / 8) == pytest.approx((longest - 0.01) / 0.0001, rel=0.01)


def test_dearer_steps_are_believed_sooner_than_cheaper_ones() -> None:
    pacer = StepPacer(0.1)
    pacer.note(0, 100.0, 0.1)
    before = pacer.prefill_work(1)
    pacer.note(0, 100.0, 0.2)
    after = pacer.prefill_work(1)
    assert after < 0.75 * before
    pacer.note(0, 100.0, 0.1)
    assert pacer.prefill_work(1) < 0.8 * before


def test_one_stalled_step_does_not_starve_prompts() -> None:
    pacer = StepPacer(0.1)
    for _ in range(20):
        pacer.note(1, 0.0, 0.03)
        pacer.note(1, 50.0, 0.08)
    pacer.note(1, 50.0, 60.0)
    pacer.note(1, 0.0, 60.0)
    assert pacer.prefill_work(1) >= 16
    for _ in range(60):
        pacer.note(1, 0.0, 0.03)
        pacer.note(1, 50.0, 0.08)
    assert pacer.prefill_work(1) > 40


def test_records_that_are_not_renewed_are_given_up() -> None:
    pacer = StepPacer(0.1)
    pacer.note(1, 0.0, 0.003)
    pacer.note(4, 0.0, 1.0)
    for _ in range(500):
        pacer.note(1, 0.0, 0.003)
    assert pacer.decode_seconds(4) == pytest.approx(1.0)
    for _ in range(20):
        pacer.note(1, 0.0, 0.003)
    assert pacer.decode_seconds(4) < 0.01


def test_sizes_that_were_not_seen_follow_those_that_were() -> None:
    pacer = StepPacer(0.1)
    assert pacer.decode_seconds(4) == 0
    pacer.note(1, 0.0, 0.003)
    assert 0.003 < pacer.decode_seconds(2) < pacer.decode_seconds(8) < pacer.decode_seconds(600)
    pacer.note(8, 0.0, 0.004)
    assert pacer.decode_seconds(8) == pytest.approx(0.004)
    assert pacer.decode_seconds(6) < pacer.decode_seconds(8)


def test_sizes_between_two_records_are_dear_as_both() -> None:
    pacer = StepPacer(0.1)
    pacer.note(1, 0.0, 0.006)
    pacer.note(16, 0.0, 0.036)  # six times as long, where 4.2 times is usual
    assert 1.6 * 0.006 < pacer.decode_seconds(4) < 1.6 * 0.036 / 4.2


def test_a_slower_machine_is_slower_for_every_size() -> None:
    pacer = StepPacer(0.1)
    for _ in range(50):
        pacer.note(1, 0.0, 0.006)
        pacer.note(4, 0.0, 0.010)
    for _ in range(20):
        pacer.note(1, 0.0, 0.012)
    assert pacer.decode_seconds(1) == pytest.approx(0.012, rel=0.05)
    assert pacer.decode_seconds(4) == pytest.approx(0.020, rel=0.1)
    for _ in range(20):
        pacer.note(1, 0.0, 0.006)
    assert pacer.decode_seconds(4) == pytest.approx(0.010, rel=0.1)
