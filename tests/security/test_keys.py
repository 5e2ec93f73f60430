from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.errors import ConfigurationError
from lepton.security import KeyFile, KeyLimits, generate_key, hash_key, load_keys


def toml(path: Path, *entries: str) -> Path:
    path.write_text("\n".join(f"[[keys]]\n{entry}" for entry in entries))
    path.chmod(0o600)
    return path


def entry(name: str, secret: str, more: str = "") -> str:
    return f'name = "{name}"\nsha256 = "{hash_key(secret)}"\n{more}'


def test_generated_keys_carry_256_bits_and_are_accepted_by_their_hash(tmp_path: Path) -> None:
    secrets = [generate_key() for _ in range(50)]
    assert len(set(secrets)) == 50
    assert all(len(secret.removeprefix("lepton-")) == 43 for secret in secrets)
    names = [f"key-{number}" for number in range(50)]
    ring = load_keys(toml(tmp_path / "keys.toml", *map(entry, names, secrets)))
    for name, secret in zip(names, secrets, strict=True):
        found = ring.authenticate(secret)
        assert found is not None
        assert found.name == name
    assert ring.authenticate(generate_key()) is None


def test_hash_is_plain_sha256() -> None:
    assert hash_key("lepton-x") == hashlib.sha256(b"lepton-x").hexdigest()


@given(st.text())
def test_any_text_is_compared_without_an_exception(secret: str) -> None:
    from lepton.security import ApiKey, KeyRing

    ring = KeyRing((ApiKey("one", hashlib.sha256(b"the only key").digest()),))
    assert (ring.authenticate(secret) is not None) == (secret == "the only key")


def test_limits_are_read_from_toml_and_json_alike(tmp_path: Path) -> None:
    limits = "requests_per_minute = 3\nconcurrent_requests = 2\nmax_tokens = 7"
    from_toml = load_keys(toml(tmp_path / "keys.toml", entry("a", "secret", limits)))
    document = {
        "keys": [
            {
                "name": "a",
                "sha256": hash_key("secret").upper(),
                "requests_per_minute": 3,
                "concurrent_requests": 2,
                "max_tokens": 7,
            }
        ]
    }
    (tmp_path / "keys.json").write_text(json.dumps(document))
    from_json = load_keys(tmp_path / "keys.json")
    assert from_toml == from_json
    assert from_toml.keys[0].limits == KeyLimits(3, 2, 7)


def test_neither_key_nor_hash_shows_in_repr(tmp_path: Path) -> None:
    ring = load_keys(toml(tmp_path / "keys.toml", entry("a", "secret")))
    assert "secret" not in repr(ring)
    assert repr(ring.keys[0].digest) not in repr(ring)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "'keys'"),
        ("keys = 3", "'keys'"),
        ("keys = []", "'keys'"),
        ("keys = [1]", "key 1"),
        ("not toml", "not valid TOML"),
        ('[[keys]]\nname = "a b"\nsha256 = "00"', "key 1: 'name'"),
        ('[[keys]]\nname = "anonymous"\nsha256 = "' + "0" * 64 + '"', "reserved"),
        ('[[keys]]\nname = "a"\nsha256 = "00"', r"key 1 \(a\): 'sha256'"),
        ('[[keys]]\nname = "a"', r"key 1 \(a\): 'sha256'"),
        (entry("a", "x", "color = 1").join(["[[keys]]\n", ""]), r"key 1 \(a\): .*'color'"),
        ("[[keys]]\n" + entry("a", "x", "max_tokens = 0"), r"key 1 \(a\): 'max_tokens'"),
        ("[[keys]]\n" + entry("a", "x", "max_tokens = true"), r"key 1 \(a\): 'max_tokens'"),
        ("[[keys]]\n" + entry("a", "x", "metrics = 1"), r"key 1 \(a\): 'metrics'"),
        ("[[keys]]\n" + entry("a", "x") + "[[keys]]\n" + entry("a", "y"), r"key 2 \(a\).*key 1"),
        ("[[keys]]\n" + entry("a", "x") + "[[keys]]\n" + entry("b", "x"), r"key 2 \(b\).*key 1"),
        ("other = 1\n[[keys]]\n" + entry("a", "x"), "'other'"),
    ],
)
def test_errors_name_file_and_entry(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=says) as caught:
        load_keys(path)
    assert str(path) in str(caught.value)


def test_missing_binary_and_deep_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_keys(tmp_path / "none.toml")
    (tmp_path / "keys.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_keys(tmp_path / "keys.toml")
    (tmp_path / "keys.json").write_text("[" * 100_000)
    with pytest.raises(ConfigurationError, match="not valid JSON"):
        load_keys(tmp_path / "keys.json")


def test_a_file_that_everyone_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = toml(tmp_path / "keys.toml", entry("a", "x"))
    with caplog.at_level(logging.WARNING, "lepton.security"):
        load_keys(path)
        assert not caplog.records
        path.chmod(0o644)
        load_keys(path)
    assert str(path) in caplog.text


def test_changes_are_picked_up_and_bad_ones_ignored(tmp_path: Path) -> None:
    now = 0.0
    path = toml(tmp_path / "keys.toml", entry("a", "first"))
    keys = KeyFile(path, check_seconds=1.0, clock=lambda: now)

    def replace(content: str) -> None:
        path.write_text(content)
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))

    toml(path, entry("a", "second"), entry("b", "third"))
    assert keys.current().authenticate("first"), "not looked at again within a second"
    now = 1.5
    assert keys.current().authenticate("first") is None
    assert keys.current().authenticate("second")
    replace("broken [")
    now = 3.0
    assert keys.current().authenticate("second"), "the keys that worked stay"
    path.unlink()
    now = 4.5
    assert keys.current().authenticate("third")
