from __future__ import annotations

import math
from typing import Any

import pytest

from lepton.engine.sampling_params import SamplingParams
from lepton.errors import RequestError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("min_tokens", -1),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("top_k", -2),
        ("top_p", 1.01),
        ("top_p", -0.1),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("seed", 2**64),
        ("seed", 0.5),
        ("stop", ("",)),
        ("stop", (3,)),
        ("stop_token_ids", (-1,)),
        ("stop_token_ids", ("a",)),
        ("logprobs", 21),
        ("logprobs", -1),
        ("n", 0),
        ("n", 10**9),
    ],
)
def test_values_out_of_range_name_their_field(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**{field: value})
    assert caught.value.param == field
    assert field in str(caught.value)


def test_min_tokens_above_max_tokens() -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(max_tokens=3, min_tokens=4)
    assert caught.value.param == "min_tokens"


def test_extremes_are_accepted() -> None:
    SamplingParams(max_tokens=0, temperature=0, top_p=0, min_p=1, seed=-(2**63), logprobs=20, n=128)
    SamplingParams(seed=2**64 - 1, presence_penalty=-2, frequency_penalty=2)


def test_single_values_and_lists_become_tuples() -> None:
    params = SamplingParams(stop="\n", stop_token_ids=7)  # type: ignore[arg-type]
    assert (params.stop, params.stop_token_ids) == (("\n",), (7,))
    params = SamplingParams(stop=["a", "b"], stop_token_ids=[1, 2])  # type: ignore[arg-type]
    assert (params.stop, params.stop_token_ids) == (("a", "b"), (1, 2))
    assert SamplingParams(stop=None).stop == ()  # type: ignore[arg-type]


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(temperature="x" * 10_000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200
