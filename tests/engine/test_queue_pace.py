from __future__ import annotations

import pytest

from lepton.engine.queue_pace import QueuePace


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
