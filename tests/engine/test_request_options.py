from __future__ import annotations

import math
from typing import Any

import pytest

from lepton.engine.core import EngineCore
from lepton.engine.request_options import RequestOptions
from lepton.engine.sampling_params import SamplingParams
from lepton.errors import RequestError

PARAMS = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant", None),
        ("tenant", 5),
        ("cache_salt", 5),
        ("priority", 1001),
        ("priority", True),
        ("priority", 0.5),
        ("queue_timeout", 0),
        ("timeout", math.inf),
        ("timeout", -1),
        ("timeout", "1"),
    ],
)
def test_nonsense_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=field) as caught:
        RequestOptions(**{field: value})  # type: ignore[arg-type]
    assert caught.value.param == field


def test_a_tenant_and_a_salt_of_the_same_name_differ() -> None:
    assert RequestOptions(tenant="a").salt == RequestOptions(tenant="a", priority=3).salt
    assert RequestOptions(tenant="a").salt != RequestOptions(tenant="b").salt
    assert RequestOptions(tenant="a").salt != RequestOptions(cache_salt="a").salt
    shared = [RequestOptions(tenant=tenant, cache_salt="all").salt for tenant in "ab"]
    assert shared[0] == shared[1]


def test_time_that_is_up_ends_a_request_with_what_it_has(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    core = EngineCore(toy.make_model(), toy.make_config(max_sequences=1))
    options = RequestOptions(timeout=5, queue_timeout=2)
    for name in "ab":
        core.add(core.make_request(name, [5], PARAMS, options=options))
    deltas = core.step()
    assert [(delta.request_id, delta.finish_reason) for delta in deltas] == [("a", None)]
    now = 102.0
    waited, generated = core.step()
    assert (waited.request_id, waited.finish_reason) == ("b", "timeout")
    assert "queue_timeout of 2 seconds" in str(waited.error)
    assert waited.timings is not None
    assert (waited.timings.scheduled, waited.timings.first_token) == (None, None)
    assert generated.request_id == "a"
    now = 105.0
    (last,) = core.step()
    assert (last.request_id, last.finish_reason) == ("a", "timeout")
    assert last.usage is not None
    assert last.usage.completion_tokens == 2
    assert last.timings is not None
    assert (last.timings.arrived, last.timings.scheduled, last.timings.finished) == (100, 100, 105)
    assert not core.has_work
    assert core.stats().timeouts_total == 2
    core.scheduler.check_integrity()
