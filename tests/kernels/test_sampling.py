"""Native sampling against numpy, and against itself in any company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.kernels import _native, isa_info, reference

POOL = _native.ThreadPool(2)
ISAS = isa_info().supported
DEFAULTS: dict[str, Any] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 0,
    "index": 0,
    "num_prompt_tokens": 0,
    "stop_token_ids": [],
    "min_tokens": 0,
}
SIZES = st.sampled_from([1, 5, 16, 511, 512, 513, 3000, 50_000])
FILTERS = {
    "temperature": st.sampled_from([0.1, 0.8, 1.0, 1.7, 30.0]),
    "top_k": st.sampled_from([0, 0, 1, 3, 40, 2000, 10**6]),
    "top_p": st.sampled_from([0.0, 0.05, 0.5, 0.95, 0.999, 1.0, 1.0]),
    "min_p": st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0]),
}


def state(token_ids: tuple[int, ...] = (), **settings: Any) -> _native.SamplingState:
    made = _native.SamplingState(**DEFAULTS | settings)
    made.observe(list(token_ids))
    return made


def sampler(isa: str = "", threads: int = 2) -> _native.Sampler:
    return _native.Sampler(POOL if threads == 2 else _native.ThreadPool(threads), isa)


def sample(
    logits: np.ndarray, positions: Any, isa: str = "", threads: int = 2, **settings: Any
) -> list[int]:
    """Tokens of one row of logits at several positions."""
    made = [state(**settings)] * len(positions)
    rows = [0] * len(positions)
    return sampler(isa, threads).sample(logits[None], rows, made, list(positions))


def random_logits(seed: int, size: int, scale: float = 4.0, step: float = 0.0) -> np.ndarray:
    """Normal logits; with a step they are rounded to its multiples, so that many are equal."""
    values = scale * np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
    return values if step == 0 else (np.round(values / step) * step).astype(np.float32)


def test_random_numbers_are_those_of_philox() -> None:
    # Known answer of Random123 for a key and counter of zeros.
    assert _native.uniform(0, 0, 0) == (0x16554D9ECA36314C >> 11) * 2.0**-53
    for seed, index, position in [(1, 0, 1), (2**64 - 1, 127, 2), (7, 3, 2**40)]:
        key = np.array([seed, index], dtype=np.uint64)
        counter = np.array([position - 1, 0, 0, 0], dtype=np.uint64)  # numpy counts before it draws
        expected = np.random.Generator(np.random.Philox(key=key, counter=counter)).random()
        assert _native.uniform(seed, index, position) == expected


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 1000),
    size=SIZES,
    scale=st.sampled_from([0.1, 1.0, 4.0, 30.0]),
    step=st.sampled_from([0.0, 0.0, 0.5]),
    **FILTERS,
)
def test_draws_are_those_of_the_reference(
    seed: int, size: int, scale: float, step: float, **filters: Any
) -> None:
    logits = random_logits(seed, size, scale, step)
    # Whether a token on the border of top_p is among those kept may hang on rounding.
    top_p = filters["top_p"]
    borders = {top_p} if top_p == 1 else {max(0.0, top_p - 1e-6), top_p, top_p + 1e-6}
    allowed = [
        np.cumsum(reference.token_probabilities(logits, **filters | {"top_p": border}))
        for border in borders
    ]
    positions = range(100)
    for position, token in zip(
        positions, sample(logits, positions, seed=seed, **filters), strict=True
    ):
        drawn = _native.uniform(seed, 0, position)
        assert any(drawn_token_is(token, drawn, running) for running in allowed), token


def drawn_token_is(token: int, drawn: float, running: np.ndarray) -> bool:
    """Whether a number in [0, 1) draws a token from the running sums of probabilities.

    Where it falls on the border of two tokens within rounding, either is right.
    """
    around = running[-1] * (drawn + np.array([-3e-6, 3e-6]))
    first, last = np.searchsorted(running, around, side="right")
    probability = running[token] - (running[token - 1] if token else 0)
    return bool(first <= token <= last and probability > 0)


@pytest.mark.parametrize("filters", [{}, {"top_k": 6}, {"top_p": 0.9}, {"min_p": 0.02}])
def test_draws_follow_the_distribution(filters: dict[str, Any]) -> None:
    logits = random_logits(3, 12, scale=1.5)
    expected = reference.token_probabilities(logits, **filters)
    draws = 20_000
    counts = np.bincount(sample(logits, range(draws), seed=11, **filters), minlength=12)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts - draws * expected)[possible] ** 2 / (draws * expected[possible])).sum()
    assert chi_square < 40  # 11 degrees of freedom or fewer: exceeded by chance once in 30,000.


def test_draws_follow_a_large_distribution() -> None:
    logits = random_logits(8, 5000, scale=1.0)
    draws = 40_000
    expected = draws * reference.token_probabilities(logits, temperature=1.3, top_p=0.95)
    counts = np.bincount(
        sample(logits, range(draws), temperature=1.3, top_p=0.95), minlength=len(logits)
    )
    assert counts[expected == 0].sum() <= 12  # A token at the border may be in or out.
    places = np.flatnonzero(expected)
    groups = np.array_split(places, 200)
    wanted = np.array([expected[group].sum() for group in groups])
    found = np.array([counts[group].sum() for group in groups])
    assert ((found - wanted) ** 2 / wanted).sum() < 290  # 199 degrees of freedom: once in 30,000.


def test_completions_draw_from_streams_of_their_own() -> None:
    logits = random_logits(1, 1000, scale=0.1)
    streams = [
        sample(logits, range(50), seed=seed, index=index) for seed in (1, 2) for index in (0, 1)
    ]
    assert len({tuple(stream) for stream in streams}) == 4


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    size=SIZES,
    step=st.sampled_from([0.0, 0.5]),
    **FILTERS,
)
def test_a_row_is_independent_of_its_company(
    seed: int, size: int, step: float, **filters: Any
) -> None:
    logits = np.stack([random_logits(seed + row, size, 2.0, step) for row in range(7)])
    greedy = [temperature == 0 for temperature in (1, 0, 1, 1, 0, 1, 1)]
    states = [
        state((0,), **filters | {"seed": row, **({"temperature": 0.0} if greedy[row] else {})})
        for row in range(7)
    ]
    positions = [3 * row for row in range(7)]
    expected = [
        sampler("scalar", 1).sample(logits, [row], [states[row]], [positions[row]])[0]
        for row in range(7)
    ]
    for isa in ISAS:
        for threads in (1, 2, 3):
            found = sampler(isa, threads).sample(logits, list(range(7)), states, positions)
            assert found == expected
    order = [6, 2, 2, 0]
    again = sampler().sample(
        logits, order, [states[row] for row in order], [positions[row] for row in order]
    )
    assert again == [expected[row] for row in order]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    size=SIZES,
    step=st.sampled_from([0.0, 0.5]),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([1, 3, 40]),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.1]),
    spare=st.sampled_from([0, 100]),
    barring=st.booleans(),
)
def test_candidates_decide_as_the_whole_row_does(
    seed: int, size: int, step: float, spare: int, barring: bool, **settings: Any
) -> None:
    logits = random_logits(seed, size, 2.0, step)
    stops = [int(logits.argmax()), size // 2, size + 5] if barring and size > 3 else []
    made = state(seed=seed, stop_token_ids=stops, min_tokens=9, **settings)
    count = made.num_deciding(4)
    assert count == (settings["top_k"] if settings["temperature"] else 1) + len(stops)
    limit = np.sort(logits)[-min(count + spare, size)]
    ids = np.flatnonzero(logits >= limit).astype(np.int32)
    for position in range(4, 8):
        whole = sampler().sample(logits[None], [0], [made], [position])
        few = sampler().sample_candidates(logits[ids], ids, [0, len(ids)], [made], [position])
        assert few == whole


def test_candidates_of_several_rows() -> None:
    logits = random_logits(2, 900)
    ids = np.concatenate([np.arange(900), np.arange(100, 200)]).astype(np.int32)
    states = [state(temperature=0.0), state(top_k=5, seed=4)]
    found = sampler().sample_candidates(logits[ids], ids, [0, 900, 1000], states, [1, 2])
    assert found[0] == int(logits.argmax())
    part = sampler().sample(logits[None, 100:200].copy(), [0], [states[1]], [2])
    assert found[1] == part[0] + 100


def test_what_candidates_cannot_decide() -> None:
    assert state(temperature=0.0).num_deciding(0) == 1
    assert state(top_k=7, min_tokens=2, stop_token_ids=[3]).num_deciding(1) == 8
    assert state(top_k=7, min_tokens=2, stop_token_ids=[3]).num_deciding(2) == 7
    assert state(top_p=0.9).num_deciding(0) == 0
    assert state(temperature=0.0, presence_penalty=0.1).num_deciding(0) == 0


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    for size in (5, 512, 513, 2000):
        logits = np.full(size, -3.0, dtype=np.float32)
        logits[[size - 1, size - 2, size // 2]] = 5
        for settings_ in ({"temperature": 0.0}, {"top_k": 1, "top_p": 0.0}, {"top_p": 0.0}):
            assert sample(logits, [0], **settings_) == [size // 2]


def test_equal_logits_keep_an_even_chance() -> None:
    logits = np.zeros(8, dtype=np.float32)
    counts = np.bincount(sample(logits, range(8000), top_k=3), minlength=8)
    assert ((counts - 1000) ** 2 / 1000).sum() < 35  # 7 degrees of freedom: once in 100,000.
    assert set(sample(logits, range(500), top_p=0.5)) == {0, 1, 2, 3}


@pytest.mark.parametrize("size", [10, 700])
def test_penalties(size: int) -> None:
    logits = random_logits(9, size)
    logits[4] = 0
    token_ids = [1, 1, 2, 4, 3, 3, 2, size - 1]
    settings_ = {"repetition": 1.3, "presence": 0.5, "frequency": 0.25}
    penalized = reference.penalize(logits, token_ids, 4, **settings_)
    named = {f"{name}_penalty": value for name, value in settings_.items()}
    for extra in ({}, {"temperature": 0.0}, {"top_k": 4}, {"top_p": 0.8}):
        made = state(tuple(token_ids), num_prompt_tokens=4, **named, **extra)
        assert made.num_observed == 8
        positions = list(range(8, 108))
        found = sampler().sample(logits[None], [0] * 100, [made] * 100, positions)
        assert found == sample(penalized, positions, **extra)


def test_penalties_cannot_overflow() -> None:
    logits = np.array([-3e38, 3e38, 1, -3e38], dtype=np.float32)
    tokens = (0, 1, 3)
    for strength in (0.01, 100.0):
        made = state(tokens, num_prompt_tokens=3, repetition_penalty=strength)
        assert sampler().sample(logits[None], [0], [made], [3]) == [1]


def test_stops_are_barred_until_enough_is_generated() -> None:
    logits = np.array([9, 8, 7, 0], dtype=np.float32)
    for settings_ in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.1}, {"min_p": 0.9}):
        made = state(num_prompt_tokens=3, min_tokens=2, stop_token_ids=[0, 1, 99], **settings_)
        found = sampler().sample(logits[None], [0, 0, 0], [made] * 3, [3, 4, 5])
        assert found == [2, 2, 0]
    drawn = sample(logits, range(300), temperature=5.0, min_tokens=300, stop_token_ids=[0, 1])
    assert set(drawn) == {2, 3}


@pytest.mark.parametrize("size", [20, 512, 800])
@pytest.mark.parametrize("isa", ISAS)
def test_failures_stay_in_their_rows(isa: str, size: int) -> None:
    logits = np.stack([random_logits(row, size) for row in range(6)])
    for row, value in enumerate([np.nan, np.inf, -np.inf]):
        logits[row, [3, size - 1, 15][row]] = value
    everything = state(min_tokens=1, stop_token_ids=list(range(size)))
    for settings_ in ({}, {"temperature": 0.0}, {"top_p": 0.9}, {"top_k": 3}):
        states = [state(**settings_)] * 5 + [everything]
        found = sampler(isa).sample(logits, list(range(6)), states, [0] * 6)
        assert found[:3] == [_native.NOT_FINITE] * 3
        assert found[3:5] == [sample(logits[row], [0], **settings_)[0] for row in (3, 4)]
        assert found[5] == _native.ALL_BARRED


def test_extreme_settings_still_choose_the_best_token() -> None:
    logits = random_logits(4, 5000)
    best = int(logits.argmax())
    for settings_ in (
        {"temperature": 1e-30},
        {"top_p": 0.0},
        {"top_p": 1e-12},
        {"min_p": 1.0},
        {"top_k": 1},
        {"min_p": 1.0, "top_p": 0.999},
    ):
        assert sample(logits, range(20), **settings_) == [best] * 20


def test_large_temperature_is_uniform() -> None:
    drawn = sample(random_logits(5, 100), range(20_000), temperature=1e30)
    counts = np.bincount(drawn, minlength=100)
    assert ((counts - 200) ** 2 / 200).sum() < 170  # 99 degrees of freedom: once in 100,000.


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    size=SIZES,
    step=st.sampled_from([0.0, 0.5]),
    num_top=st.sampled_from([0, 1, 5, 20]),
)
def test_logprobs(seed: int, size: int, step: float, num_top: int) -> None:
    logits = np.stack([random_logits(seed + row, size, step=step) for row in range(3)])
    tokens = [seed % size, 0, size - 1]
    found = sampler().logprobs(logits, [0, 1, 2], tokens, [num_top, 0, num_top])
    for row, (chosen, top_ids, top) in enumerate(found):
        exact = logits[row].astype(np.float64)
        expected = exact - np.log(np.exp(exact).sum())
        count = min(size, 0 if row == 1 else num_top)
        best = np.argsort(-exact, kind="stable")[:count]
        assert chosen == pytest.approx(expected[tokens[row]], abs=1e-5)
        assert top_ids == best.tolist()
        assert top == pytest.approx(expected[best].tolist(), abs=1e-5)
    for isa in ISAS:
        assert sampler(isa, 1).logprobs(logits, [0], tokens[:1], [num_top]) == found[:1]


def test_logprobs_of_rows_that_are_not_finite() -> None:
    logits = np.stack([random_logits(1, 600), random_logits(2, 600)])
    logits[0, 7] = np.nan
    broken, whole = sampler().logprobs(logits, [0, 1], [5, 5], [3, 3])
    assert np.isnan(broken[0])
    assert np.isfinite(whole[0])


def test_logits_are_left_as_they_are() -> None:
    logits = random_logits(7, 3000)
    before = logits.copy()
    named = {"repetition_penalty": 1.5, "presence_penalty": 1.0}
    made = state((4, 5), num_prompt_tokens=1, min_tokens=9, stop_token_ids=[4], top_p=0.5, **named)
    sampler().sample(logits[None], [0], [made], [2])
    sampler().logprobs(logits[None], [0], [1], [5])
    np.testing.assert_array_equal(logits, before)


def test_inconsistent_calls_are_refused() -> None:
    logits = random_logits(0, 30).reshape(3, 10)
    ids = np.arange(10, dtype=np.int32)
    made = sampler()
    for rows, states, positions in [([3], 1, 1), ([0, 1], 1, 1), ([0], 1, 2)]:
        with pytest.raises(ValueError, match="row"):
            made.sample(logits, rows, [state()] * states, [0] * positions)
    with pytest.raises(ValueError, match="empty"):
        made.sample(logits[:, :0].copy(), [0], [state()], [0])
    with pytest.raises(ValueError, match="out of range"):
        made.logprobs(logits, [0], [10], [1])
    for starts in ([0], [0, 0], [0, 9], [1, 10]):
        with pytest.raises(ValueError, match=r"starts|candidates"):
            made.sample_candidates(logits[0], ids, starts, [state()], [0])
    with pytest.raises(ValueError, match="ascend"):
        made.sample_candidates(logits[0], ids[::-1].copy(), [0, 10], [state()], [0])
    with pytest.raises(ValueError, match="unknown"):
        _native.Sampler(POOL, "abacus")
