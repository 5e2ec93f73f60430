"""Files that are mapped, and things that are no files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lepton.errors import ModelFormatError, ModelNotFoundError
from lepton.models.weights.mapped_file import MappedFile


@pytest.fixture
def letters(tmp_path):
    path = tmp_path / "letters"
    path.write_bytes(b"abcdefgh")
    file = MappedFile(path)
    yield file
    file.close()


def test_views_show_the_bytes_asked_for(letters):
    assert letters.size == 8
    assert letters.view(2, 3).tobytes() == b"cde"
    assert letters.view(0, 8).tobytes() == b"abcdefgh"
    assert letters.view(8, 0).shape == (0,)
    assert not letters.view(0, 1).flags.writeable


@pytest.mark.parametrize(("start", "nbytes"), [(-1, 2), (0, 9), (8, 1), (2**70, 1), (4, -1)])
def test_views_outside_the_file_are_refused(letters, start, nbytes):
    with pytest.raises(ValueError, match="outside"):
        letters.view(start, nbytes)


def test_views_show_writes_but_refuse_another_size(letters):
    view = letters.view(0, 8)
    with letters.path.open("r+b") as file:
        file.write(b"A")
    assert view[0] == ord("A")
    with letters.path.open("ab") as file:
        file.write(b"i")
    with pytest.raises(ModelFormatError, match="changed from 8 to 9 bytes"):
        letters.view(0, 1)


def test_replacing_the_file_by_renaming_is_harmless(letters):
    new = letters.path.with_suffix(".new")
    new.write_bytes(b"xy")
    new.rename(letters.path)
    assert letters.view(0, 8).tobytes() == b"abcdefgh"


def test_no_descriptor_stays_open(tmp_path):
    def open_files():
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    empty = tmp_path / "empty"
    empty.touch()
    full = tmp_path / "full"
    full.write_bytes(b"1")
    before = open_files()
    for _ in range(3):
        with pytest.raises(ModelFormatError, match="empty"):
            MappedFile(empty)
        file = MappedFile(full)
        view = file.view(0, 1)
        file.close()
        assert view[0] == ord("1")
        del view
    assert open_files() == before


def test_things_that_are_no_files_are_refused_without_waiting(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(ModelFormatError, match="not a regular file"):
            MappedFile(path)
    with pytest.raises(ModelNotFoundError, match="No such file"):
        MappedFile(tmp_path / "missing")


def test_a_closed_file_says_so(letters):
    view = letters.view(0, 8)
    letters.close()
    assert np.array_equal(view, np.frombuffer(b"abcdefgh", np.uint8))
    with pytest.raises(ValueError, match="is closed"):
        letters.view(0, 1)


def test_released_pages_are_read_again(tmp_path: Path) -> None:
    content = bytes(range(256)) * 64
    path = tmp_path / "file"
    path.write_bytes(content)
    file = MappedFile(path)
    view = file.view(0, len(content))
    assert view.tobytes() == content
    file.release_pages()
    assert view.tobytes() == content
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.release_pages()
