from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lepton.engine.sampler import _candidates, _penalize, _place, sample, uniform
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.sequence import Request, Sequence
from lepton.errors import EngineError


def sequence(
    params: SamplingParams, prompt: tuple[int, ...] = (0,), generated: tuple[int, ...] = ()
) -> Sequence:
    request = Request(
        request_id="a",
        prompt_token_ids=prompt,
        params=params,
        seed=params.seed or 0,
        max_tokens=100,
        stop_token_ids=frozenset(params.stop_token_ids),
    )
    made = Sequence(request, 0, text=None)  # type: ignore[arg-type]
    made.token_ids += generated
    return made


def distribution(logits: np.ndarray, made: Sequence) -> np.ndarray:
    """The probabilities that tokens are drawn with."""
    penalized = _penalize(logits, made)
    params = made.request.params
    ids, weights = _candidates(penalized, int(penalized.argmax()), params)
    probabilities = np.zeros(len(logits))
    probabilities[slice(None) if ids is None else ids] = weights / weights.sum(dtype=np.float64)
    return probabilities


def random_logits(seed: int, size: int, scale: float = 4.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from([5, 300, 5000]),
    scale=st.sampled_from([0.1, 1.0, 4.0]),
    temperature=st.sampled_from([0.3, 1.0, 1.9]),
    top_k=st.sampled_from([0, 1, 4, 40]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.9]),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.3]),
)
def test_distribution_equals_transformers(
    seed: int,
    size: int,
    scale: float,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
) -> None:
    logits = random_logits(seed, size, scale)
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
    )
    made = sequence(params, prompt=(1, 2, 2), generated=(3, 1))
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(repetition_penalty)])
    processors.append(TemperatureLogitsWarper(temperature))
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        processors.append(TopPLogitsWarper(top_p))
    if min_p:
        processors.append(MinPLogitsWarper(min_p))
    scores = processors(
        torch.tensor([made.token_ids]), torch.tensor(logits[None], dtype=torch.float64)
    )
    expected = torch.softmax(scores, dim=-1)[0].numpy()
    actual = distribution(logits, made)
    # Where the sum meets top_p within rounding, one token more or less is right.
    kept, wanted = np.count_nonzero(actual), np.count_nonzero(expected)
    assert abs(kept - wanted) <= (1 if top_p < 1 else 0)
    if kept == wanted:
        np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_presence_and_frequency_count_generated_tokens_only() -> None:
    logits = np.zeros(6, dtype=np.float32)
    params = SamplingParams(presence_penalty=0.5, frequency_penalty=0.25)
    made = sequence(params, prompt=(1, 1), generated=(2, 3, 3, 3))
    assert _penalize(logits, made).tolist() == [0, 0, -0.75, -1.25, 0, 0]
    assert not logits.any()


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    logits = np.array([0, 5, 1, 5, 5], dtype=np.float32)
    for top_k in (0, 1):
        assert sample(logits, sequence(SamplingParams(temperature=0, top_k=top_k))) == 1


def test_equal_logits_keep_an_even_chance() -> None:
    logits = np.zeros(8, dtype=np.float32)
    assert np.count_nonzero(distribution(logits, sequence(SamplingParams(top_k=3)))) == 8
    half = distribution(logits, sequence(SamplingParams(top_p=0.5)))
    assert np.flatnonzero(half).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("params", [{}, {"top_k": 6}, {"top_p": 0.9}, {"min_p": 0.02}])
def test_draws_follow_the_distribution(params: dict[str, Any]) -> None:
    logits = random_logits(3, 12, scale=1.5)
    expected = distribution(logits, sequence(SamplingParams(**params)))
    draws = 4000
    counts = np.zeros(12)
    for seed in range(draws):
        counts[sample(logits, sequence(SamplingParams(seed=seed, **params)))] += 1
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts - draws * expected)[possible] ** 2 / (draws * expected[possible])).sum()
    assert chi_square < 40  # 11 degrees of freedom or fewer: exceeded by chance once in 30,000.


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([1, 2, 511, 512, 513, 3000]),
    share=st.sampled_from([0.002, 0.5, 1.0]),
    drawn=st.one_of(st.sampled_from([0.0, 1 - 2**-53]), st.floats(0, 1, exclude_max=True)),
)
def test_place_is_where_the_running_sum_passes(
    seed: int, size: int, share: float, drawn: float
) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.random(size, dtype=np.float32)
    weights[generator.random(size) >= share] = 0
    weights[generator.integers(size)] = 1
    place = _place(weights, drawn)
    assert weights[place] > 0
    running = np.cumsum(weights, dtype=np.float64) / weights.sum(dtype=np.float64)
    assert running[place] >= drawn - 1e-12
    assert place == 0 or running[place - 1] <= drawn + 1e-12


def test_extreme_settings_still_choose_the_best_token() -> None:
    logits = random_logits(4, 500)
    best = int(logits.argmax())
    for params in (
        SamplingParams(temperature=1e-30),
        SamplingParams(top_p=0.0),
        SamplingParams(top_p=1e-12),
        SamplingParams(min_p=1.0),
        SamplingParams(top_k=1),
    ):
        assert sample(logits, sequence(params)) == best


def test_large_temperature_is_uniform() -> None:
    flat = distribution(random_logits(5, 100), sequence(SamplingParams(temperature=1e30)))
    np.testing.assert_allclose(flat, 0.01, rtol=1e-5)


def test_random_numbers_depend_on_seed_index_and_position_alone() -> None:
    keys = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0), (-1, 0, 0), (2**64 - 2, 0, 0)]
    drawn = [uniform(*key) for key in keys]
    assert len(set(drawn)) == len(keys)
    assert drawn == [uniform(*key) for key in keys]
    assert all(0 <= each < 1 for each in drawn)
    many = np.array([uniform(9, 0, position) for position in range(2000)])
    assert abs(many.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) < 0.08


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_not_finite_are_an_error(value: float, temperature: float) -> None:
    logits = random_logits(6, 50)
    logits[7] = value
    with pytest.raises(EngineError, match="not finite"):
        sample(logits, sequence(SamplingParams(temperature=temperature)))


def test_min_tokens_bars_the_ends() -> None:
    logits = np.array([9, 8, 7, 0], dtype=np.float32)
    params = SamplingParams(temperature=0, min_tokens=2, stop_token_ids=(0, 1, 99))
    assert sample(logits, sequence(params, generated=(3,))) == 2
    assert sample(logits, sequence(params, generated=(3, 3))) == 0
    everything = SamplingParams(min_tokens=1, stop_token_ids=(0, 1, 2, 3))
    with pytest.raises(EngineError, match="bars every token"):
        sample(logits, sequence(everything))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0]), st.sampled_from([0.5, 1.0]))
def test_logits_are_left_as_they_are(seed: int, temperature: float, top_p: float) -> None:
    logits = random_logits(seed, 300)
    before = logits.copy()
    params = SamplingParams(
        temperature=temperature,
        top_p=top_p,
        repetition_penalty=1.5,
        presence_penalty=1,
        min_tokens=9,
        stop_token_ids=(4,),
    )
    sample(logits, sequence(params, generated=(4, 5)))
    np.testing.assert_array_equal(logits, before)
