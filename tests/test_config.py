from __future__ import annotations

from pathlib import Path

import pytest

from lepton import config


def test_cache_is_in_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LEPTON_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config.cache_directory() == tmp_path / ".cache" / "lepton"
    assert config.models_directory() == tmp_path / ".cache" / "lepton" / "models"


def test_lepton_home_moves_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LEPTON_HOME", "~/elsewhere")
    assert config.cache_directory() == tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEPTON_HOME", "relative")
    assert config.cache_directory() == tmp_path / "relative"


@pytest.mark.parametrize(("value", "expected"), [("", False), ("0", False), ("1", True)])
def test_debugging(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("LEPTON_DEBUG", value)
    assert config.debugging() is expected
