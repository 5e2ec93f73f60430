from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from lepton.security.keys import load_keys

Run = Callable[..., Result]


def test_generated_keys_open_the_door(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    secrets = {
        name: run("keys", "generate", name, "--file", str(file)).stdout.strip()
        for name in ("desk", "batch")
    }
    ring = load_keys(file)
    for name, secret in secrets.items():
        key = ring.authenticate(secret)
        assert key is not None
        assert key.name == name
        assert secret not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_stood_in_the_file_stays(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    before = '# ours\n[[keys]]\nname = "old"\nsha256 = "' + "0" * 64 + '"\nmax_tokens = 7'
    file.write_text(before)
    assert run("keys", "generate", "new", "-f", str(file)).exit_code == 0
    assert file.read_text().startswith(before)
    assert [key.name for key in load_keys(file).keys] == ["old", "new"]


def test_a_refused_name_changes_nothing(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    run("keys", "generate", "desk", "-f", str(file))
    before = file.read_text()
    for name in ("desk", "two words", 'x"\n[[keys]]', "anonymous"):
        result = run("keys", "generate", name, "-f", str(file))
        assert result.exit_code == 2, name
        assert result.stdout == ""
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]


def test_json_files_are_left_to_their_owner(run: Run, tmp_path: Path) -> None:
    result = run("keys", "generate", "desk", "-f", str(tmp_path / "keys.json"))
    assert result.exit_code == 2
    assert "TOML" in result.stderr


def test_an_unwritable_place_is_named(run: Run, tmp_path: Path) -> None:
    result = run("keys", "generate", "desk", "-f", str(tmp_path / "absent" / "keys.toml"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
