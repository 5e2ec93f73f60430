"""Damaged safetensors folders: whatever the bytes say, they are read or refused."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lepton.errors import ModelFormatError
from lepton.models.weights import open_checkpoint

relaxed = settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz")
    (path / "config.json").write_text("{}")
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "model.safetensors"
    save_file({"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float16)}, path)
    return path.read_bytes()


def read_or_refuse(folder, data):
    (folder / "model.safetensors").write_bytes(data)
    refused = None
    try:
        checkpoint = open_checkpoint(folder)
    except ModelFormatError as error:
        refused = error
    if refused is not None:
        assert "model.safetensors" in str(refused)
        return
    with checkpoint:
        for name, info in checkpoint.tensors.items():
            assert checkpoint.raw(name).size == info.nbytes
            assert checkpoint.float32(name).shape == info.shape


@relaxed
@given(st.data())
def test_overwritten_and_cut_files(folder, sound, data):
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        written = data.draw(st.binary(min_size=1, max_size=4) | st.sampled_from([b"0", b"9", b'"']))
        damaged[position : position + len(written)] = written
    del damaged[data.draw(st.integers(0, len(damaged)) | st.just(len(damaged))) :]
    read_or_refuse(folder, bytes(damaged))


NUMBERS = st.integers(-2, 40) | st.sampled_from([2**31, 2**32, 2**63, 2**64 - 1, 2**64])
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F64", "U8", "X"]),
        "shape": st.lists(NUMBERS, max_size=3),
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2),
    }
)


@relaxed
@given(st.dictionaries(st.text(max_size=3), ENTRIES, max_size=3), st.binary(max_size=40))
def test_headers_of_the_right_form(folder, header, data):
    text = json.dumps(header).encode()
    read_or_refuse(folder, struct.pack("<Q", len(text)) + text + data)
