from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from lepton.errors import CapacityError, UnavailableError
from lepton.security import hash_key
from lepton.server.admission import Admission
from lepton.server.errors import ApiError
from lepton.server.settings import ServerSettings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(
        f'[[keys]]\nname = "small"\nsha256 = "{hash_key("one")}"\n'
        "requests_per_minute = 3\nconcurrent_requests = 2\n"
        f'[[keys]]\nname = "free"\nsha256 = "{hash_key("two")}"\n'
    )
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "header", [None, "", "one", "Basic one", "Bearer", "Bearer nope", "Bearer "]
)
def test_what_is_not_a_known_key_is_refused(keys: Path, header: str | None) -> None:
    admission = Admission(ServerSettings(keys_file=keys))
    with pytest.raises(ApiError) as caught:
        admission.authenticate(header)
    assert caught.value.status == 401
    assert caught.value.code == "invalid_api_key"
    assert "one" not in str(caught.value).split()


def test_known_keys_and_open_servers_let_in(keys: Path) -> None:
    admission = Admission(ServerSettings(keys_file=keys))
    key = admission.authenticate("bearer one")
    assert key is not None
    assert key.name == "small"
    assert Admission(ServerSettings()).authenticate("Bearer anything") is None


def test_requests_per_minute_slide(keys: Path) -> None:
    clock = Clock()
    admission = Admission(ServerSettings(keys_file=keys), clock=clock)
    key = admission.authenticate("Bearer one")
    for second in (0, 10, 20):
        clock.now = second
        with admission.enter(key, counted=True):
            pass
    clock.now = 30
    with admission.enter(key, counted=False):
        pass
    with pytest.raises(CapacityError) as caught, admission.enter(key, counted=True):
        pass
    assert caught.value.retry_after == 30
    clock.now = 60
    with admission.enter(key, counted=True):
        pass
    with pytest.raises(CapacityError) as caught, admission.enter(key, counted=True):
        pass
    assert caught.value.retry_after == 10


def test_concurrency_per_key_and_over_all(keys: Path) -> None:
    admission = Admission(ServerSettings(keys_file=keys, max_requests=4))
    small, free = (admission.authenticate(f"Bearer {each}") for each in ("one", "two"))
    with ExitStack() as held:
        held.enter_context(admission.enter(small, counted=True))
        held.enter_context(admission.enter(small, counted=True))
        with pytest.raises(CapacityError, match="small"), admission.enter(small, counted=True):
            pass
        held.enter_context(admission.enter(free, counted=True))
        held.enter_context(admission.enter(free, counted=True))
        with pytest.raises(CapacityError, match="busy"), admission.enter(free, counted=True):
            pass
        assert admission.in_progress == 4
    assert admission.in_progress == 0
    with admission.enter(free, counted=True):
        pass


def test_a_key_with_less_than_its_share_is_let_in(keys: Path) -> None:
    admission = Admission(ServerSettings(keys_file=keys, max_requests=4))
    small, free = (admission.authenticate(f"Bearer {each}") for each in ("one", "two"))
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(admission.enter(free, counted=True))
        for _ in range(2):
            with pytest.raises(CapacityError, match="busy"), admission.enter(free, counted=True):
                pass
            held.enter_context(admission.enter(small, counted=True))
        assert admission.in_progress == 6


def test_drain_ends_when_idle_or_after_the_grace_period() -> None:
    clock = Clock()
    admission = Admission(ServerSettings(), clock=clock)
    held = ExitStack()
    held.enter_context(admission.enter(None, counted=True))
    assert not admission.drained
    admission.drain(10)
    assert admission.draining
    assert not admission.drained
    with pytest.raises(UnavailableError), admission.enter(None, counted=True):
        pass
    clock.now = 11
    assert admission.drained
    clock.now = 5
    assert not admission.drained
    held.close()
    assert admission.drained
