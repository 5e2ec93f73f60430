from __future__ import annotations

import time
from typing import Any

import pytest

from lepton.engine.core import EngineCore
from lepton.engine.queue_pace import QueuePace
from lepton.engine.sampling_params import SamplingParams


def test_waits_follow_the_time_between_admissions(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = QueuePace()
    assert pace.wait(100) == 0
    now = 50.0
    pace.note(1, waiting=False, oldest=None)  # It did not wait: the time before says nothing.
    for _ in range(60):
        now += 1.0
        pace.note(2, waiting=True, oldest=now - 3)
    assert pace.wait(10) == pytest.approx(5.0)
    assert pace.wait(0) == 0
    assert pace.oldest_seconds == 3
    now += 30.0
    assert pace.wait(2) == pytest.approx(60.0)
    pace.note(0, waiting=False, oldest=None)
    assert pace.oldest_seconds == 0
    now += 100.0
    assert pace.wait(2) == pytest.approx(1.0)  # Nobody was left waiting: that time was idle.


def test_only_those_left_waiting_set_the_pace(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    core = EngineCore(toy.make_model(), toy.make_config(max_sequences=2))
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    params = SamplingParams(max_tokens=3, temperature=0, ignore_eos=True)

    def add(name: str) -> None:
        core.add(core.make_request(name, [5, 6], params))

    for name in ("a", "b"):
        now += 40.0
        add(name)
        core.step()
        assert core.queue_pace.wait(1) == 0  # Nobody waited: idle time is no pace.
    for name in ("c", "d", "e"):
        add(name)
    assert core.free_places == 0
    while core.has_work:
        now += 1.0
        core.step()
    assert 0 < core.queue_pace.wait(1) < 5
    core.close()
