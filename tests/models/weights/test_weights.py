"""What ``open_checkpoint`` makes of a path."""

from __future__ import annotations

import os
import shutil
import struct

import pytest

from lepton.errors import ModelFormatError, ModelNotFoundError
from lepton.models.weights import GgufCheckpoint, open_checkpoint

EMPTY_GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0)


@pytest.fixture
def gguf_file(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(EMPTY_GGUF)
    return path


def test_a_file_its_folder_and_a_string_lead_to_the_same_model(gguf_file):
    for path in (gguf_file, gguf_file.parent, str(gguf_file)):
        with open_checkpoint(path) as checkpoint:
            assert isinstance(checkpoint, GgufCheckpoint)
            assert checkpoint.path == gguf_file


def test_the_home_directory_is_expanded(gguf_file, monkeypatch):
    monkeypatch.setenv("HOME", str(gguf_file.parent))
    with open_checkpoint("~/model.gguf") as checkpoint:
        assert checkpoint.path == gguf_file


def test_a_gguf_file_of_another_name_is_read(gguf_file):
    blob = gguf_file.rename(gguf_file.parent / "sha256-1234")
    with open_checkpoint(blob) as checkpoint:
        assert checkpoint.format == "gguf"


def test_nothing_at_the_path(tmp_path):
    with pytest.raises(ModelNotFoundError, match="missing does not exist"):
        open_checkpoint(tmp_path / "missing")


def test_a_folder_without_a_model(tmp_path):
    (tmp_path / "README.md").touch()
    with pytest.raises(ModelNotFoundError, match=r"holds no model: neither a \.gguf file nor"):
        open_checkpoint(tmp_path)


def test_a_folder_with_several_models(gguf_file):
    shutil.copy(gguf_file, gguf_file.parent / "other.gguf")
    with pytest.raises(ModelFormatError, match=r"several models \(model\.gguf, other\.gguf\)"):
        open_checkpoint(gguf_file.parent)


def test_a_folder_with_both_formats(gguf_file):
    (gguf_file.parent / "model.safetensors").touch()
    with pytest.raises(ModelFormatError, match=r"\(model\.gguf, model\.safetensors\)"):
        open_checkpoint(gguf_file.parent)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused_alone_and_in_a_folder(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ModelFormatError, match="convert the model to safetensors") as caught:
            open_checkpoint(path)
        assert caught.value.file == str(tmp_path / name)


def test_a_safetensors_file_alone_is_sent_to_its_folder(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelFormatError, match="give the folder"):
        open_checkpoint(tmp_path / "model.safetensors")


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("Dear model,")
    with pytest.raises(ModelFormatError, match=r"notes\.txt.*not a GGUF file"):
        open_checkpoint(tmp_path / "notes.txt")


def test_a_path_that_no_file_can_have():
    for path in ("a\0b", "x" * 5_000, "\ud800"):
        with pytest.raises(ModelNotFoundError):
            open_checkpoint(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to the superuser")
def test_an_unreadable_folder(gguf_file):
    gguf_file.parent.chmod(0)
    try:
        with pytest.raises(ModelNotFoundError, match="Permission denied"):
            open_checkpoint(gguf_file.parent)
    finally:
        gguf_file.parent.chmod(0o700)
