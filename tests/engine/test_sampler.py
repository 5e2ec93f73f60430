"""The engine's face of the native sampler; tests/kernels/test_sampling.py tests what is behind."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lepton.engine.sampler import Choice, Sampler
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.sequence import Request, Sequence
from lepton.errors import EngineError
from lepton.kernels import _native, reference


def sequence(
    params: SamplingParams,
    prompt: tuple[int, ...] = (0,),
    generated: tuple[int, ...] = (),
    index: int = 0,
) -> Sequence:
    request = Request(
        request_id="a",
        prompt_token_ids=prompt,
        params=params,
        seed=params.seed or 0,
        max_tokens=100,
        stop_token_ids=frozenset(params.stop_token_ids),
    )
    made = Sequence(request, index, text=None)  # type: ignore[arg-type]
    made.token_ids += generated
    return made


def random_logits(seed: int, size: int = 300) -> np.ndarray:
    return 3 * np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def choose(logits: np.ndarray, made: Sequence) -> int:
    (choice,) = Sampler(None).sample(logits[None], [0], [made])
    assert isinstance(choice, Choice)
    return choice.token_id


def test_draws_follow_the_random_numbers_of_the_sequence() -> None:
    logits = random_logits(1)
    running = np.cumsum(reference.token_probabilities(logits, temperature=0.8, top_p=0.95))
    for seed, index, length in [(1, 0, 0), (1, 0, 5), (1, 2, 0), (-1, 0, 0), (2**64 - 1, 0, 9)]:
        params = SamplingParams(seed=seed, temperature=0.8, top_p=0.95)
        made = sequence(params, (3, 4), (5,) * length, index)
        drawn = _native.uniform(seed % 2**64, index, 2 + length)
        assert choose(logits, made) == np.searchsorted(running, drawn, side="right")


def test_settings_of_any_size_are_taken() -> None:
    logits = random_logits(2)
    params = SamplingParams(
        temperature=0, top_k=10**30, min_tokens=10**30, stop_token_ids=(10**30, 7)
    )
    logits[7] = 99
    assert choose(logits, sequence(params)) == np.argmax(np.delete(logits, 7)) + (
        np.argmax(np.delete(logits, 7)) >= 7
    )


def test_penalties_follow_the_sequence_as_it_grows() -> None:
    params = SamplingParams(
        temperature=0, repetition_penalty=1.2, presence_penalty=0.4, frequency_penalty=0.3
    )
    prompt = (4, 4, 9)
    made = sequence(params, prompt)
    logits = random_logits(3, 20)
    sampler = Sampler(_native.ThreadPool(2))
    for _ in range(40):
        expected = reference.penalize(
            logits, made.token_ids, len(prompt), repetition=1.2, presence=0.4, frequency=0.3
        )
        (choice,) = sampler.sample(logits[None], [0], [made])
        assert isinstance(choice, Choice)
        assert choice.token_id == expected.argmax()
        made.token_ids.append(choice.token_id)
    assert len(set(made.token_ids)) > 5


def test_min_tokens_bars_the_ends() -> None:
    logits = np.array([9, 8, 7, 0], dtype=np.float32)
    params = SamplingParams(temperature=0, min_tokens=2, stop_token_ids=(0, 1, 99))
    assert choose(logits, sequence(params, generated=(3,))) == 2
    assert choose(logits, sequence(params, generated=(3, 3))) == 0


def test_failures_are_errors_of_their_own_rows() -> None:
    logits = np.stack([random_logits(row, 4) for row in range(3)])
    logits[0, 2] = np.nan
    barred = SamplingParams(min_tokens=1, stop_token_ids=(0, 1, 2, 3))
    greedy = SamplingParams(temperature=0, logprobs=1)
    sequences = [sequence(greedy), sequence(barred), sequence(greedy)]
    not_finite, all_barred, fine = Sampler(None).sample(logits, [0, 1, 2], sequences)
    assert isinstance(not_finite, EngineError)
    assert "not finite" in str(not_finite)
    assert isinstance(all_barred, EngineError)
    assert "bars every token" in str(all_barred)
    assert isinstance(fine, Choice)
    assert fine.token_id == logits[2].argmax()


def test_log_probabilities_where_they_are_asked_for() -> None:
    logits = np.stack([random_logits(row, 50) for row in range(4)])
    asked = [None, 2, 0]
    sequences = [sequence(SamplingParams(temperature=0, logprobs=count)) for count in asked]
    choices = Sampler(None).sample(logits, [3, 1, 0], sequences)
    for row, count, choice in zip([3, 1, 0], asked, choices, strict=True):
        assert isinstance(choice, Choice)
        assert choice.token_id == logits[row].argmax()
        if count is None:
            assert choice.logprobs is None
            continue
        exact = logits[row].astype(np.float64)
        expected = exact - math.log(np.exp(exact).sum())
        assert choice.logprobs is not None
        logprob, top_ids, top = choice.logprobs
        assert logprob == pytest.approx(expected.max(), abs=1e-5)
        assert top_ids == np.argsort(-expected)[:count].tolist()
        assert top == pytest.approx(expected[top_ids].tolist(), abs=1e-5)


def test_log_probabilities_of_given_tokens() -> None:
    logits = np.stack([random_logits(row, 50) for row in range(3)])
    found = Sampler(None).logprobs(logits, [1, 2], [7, 8], 1)
    for row, token, (logprob, _, top) in zip([1, 2], [7, 8], found, strict=True):
        assert logprob - top[0] == pytest.approx(logits[row, token] - logits[row].max(), abs=1e-5)
    assert Sampler(None).logprobs(logits, [], [], 1) == []
    logits[2, 0] = np.inf
    with pytest.raises(EngineError, match="not finite"):
        Sampler(None).logprobs(logits, [1, 2], [7, 8], 1)


def test_nothing_to_sample() -> None:
    assert Sampler(None).sample(random_logits(0)[None], [], []) == []
    nothing = np.empty((0, 300), dtype=np.float32)
    assert Sampler(None).sample(nothing, [], []) == []
