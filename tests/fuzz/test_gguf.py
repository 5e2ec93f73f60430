"""Damaged GGUF files: whatever the bytes say, they are read or refused, in little memory."""

from __future__ import annotations

import mmap
import os
import struct
import tracemalloc
from contextlib import contextmanager
from itertools import pairwise

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton.errors import ModelFormatError
from lepton.kernels.quants import dequantize
from lepton.models.weights.gguf_header import read_header

relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

# Values that sit on the edges of the checks.
INTERESTING = [0, 1, 4, 5, 8, 9, 31, 33, 255, 2**16, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]


@st.composite
def edits(draw, positions):
    """One change: bytes overwritten at a position, with noise or with an interesting number."""
    number = st.sampled_from(INTERESTING)
    written = draw(
        st.one_of(
            st.binary(min_size=1, max_size=8),
            number.map(lambda value: struct.pack("<Q", value)),
            number.map(lambda value: struct.pack("<I", value & 0xFFFFFFFF)),
        )
    )
    return draw(positions), written


@contextmanager
def memory_below(limit):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def read_or_refuse(data):
    """Parse; a refusal names the file, a success describes tensors that lie in the file."""
    refused = None
    try:
        header = read_header(data, "fuzz.gguf")
    except ModelFormatError as error:
        refused = error
    if refused is not None:
        assert str(refused).startswith("fuzz.gguf")
        assert refused.offset is not None
        return
    places = sorted((header.offsets[name], info) for name, info in header.tensors.items())
    for (start, info), (next_start, _) in pairwise([*places, (len(data), None)]):
        assert start % header.alignment == 0
        assert start + info.nbytes <= next_start
        if info.nbytes < 4096:
            stored = np.frombuffer(data, np.uint8, info.nbytes, start).copy()
            assert dequantize(info.type, stored, info.shape).shape == info.shape


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file with every kind of metadata value and several types of tensor."""
    path = tmp_path_factory.mktemp("fuzz") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("u8", 1)
    writer.add_int8("i8", -1)
    writer.add_uint16("u16", 1)
    writer.add_int16("i16", -1)
    writer.add_int32("i32", -1)
    writer.add_uint64("u64", 1)
    writer.add_int64("i64", -1)
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.5)
    writer.add_bool("bool", True)
    writer.add_string("string", "größer 模型")
    writer.add_array("tokens", ["<s>", "a", "的", ""])
    writer.add_array("scores", [0.0, 1.5])
    writer.add_array("nested", [[1, 2], [3]])
    values = np.linspace(-1, 1, 512, dtype=np.float32).reshape(2, 256)
    writer.add_tensor("plain", values)
    for kind in (gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.BF16):
        writer.add_tensor(kind.name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = path.read_bytes()
    assert len(read_header(data, path).tensors) == 3
    return data


@settings(relaxed, max_examples=300)
@given(st.data())
def test_overwritten_cut_and_spliced_files(small, data):
    damaged = bytearray(small)
    for position, written in data.draw(st.lists(edits(st.integers(0, 900)), max_size=4)):
        damaged[position : position + len(written)] = written
    if data.draw(st.booleans()):
        source, target = (data.draw(st.integers(0, len(damaged))) for _ in range(2))
        length = data.draw(st.integers(0, 200))
        damaged[target:target] = damaged[source : source + length]
    del damaged[data.draw(st.integers(0, len(damaged)) | st.just(len(damaged))) :]
    with memory_below(4 << 20):
        read_or_refuse(bytes(damaged))


@settings(relaxed, max_examples=300)
@given(tail=st.binary(max_size=200), tensors=st.integers(0, 3), keys=st.integers(0, 3))
def test_noise_after_a_sound_beginning(tail, tensors, keys):
    with memory_below(4 << 20):
        read_or_refuse(struct.pack("<4sIQQ", b"GGUF", 3, tensors, keys) + tail)


@settings(relaxed, max_examples=300)
@given(st.binary(max_size=100))
def test_noise_alone(noise):
    read_or_refuse(noise)


@pytest.fixture(scope="module")
def real(smollm2_path):
    """The real header, followed by as many bytes of nothing as the file has data."""
    with smollm2_path.open("rb") as file:
        start = file.read(4 << 20)
        memory = mmap.mmap(-1, file.seek(0, os.SEEK_END))
    memory[: len(start)] = start
    header_bytes = min(read_header(memory, smollm2_path).offsets.values())
    memory[header_bytes : len(start)] = bytes(len(start) - header_bytes)
    yield memory, header_bytes
    memory.close()


def positions(header_bytes):
    """Mostly where the numbers are: before the vocabulary and in the list of 272 tensors."""
    return st.one_of(
        st.integers(0, 1200),
        st.integers(header_bytes - 18_000, header_bytes - 16),
        st.integers(0, header_bytes - 16),
    )


@contextmanager
def damage(memory, changes):
    undo = [(position, memory[position : position + len(new)]) for position, new in changes]
    try:
        for position, new in changes:
            memory[position : position + len(new)] = new
        yield
    finally:
        for position, old in reversed(undo):
            memory[position : position + len(old)] = old


def test_the_real_header_is_sound_before_it_is_damaged(real):
    memory, header_bytes = real
    header = read_header(memory, "fuzz.gguf")
    assert len(header.tensors) == 272
    assert min(header.offsets.values()) == header_bytes


@settings(relaxed, max_examples=80)
@given(st.data())
def test_the_real_header_damaged(real, data):
    memory, header_bytes = real
    with damage(memory, data.draw(st.lists(edits(positions(header_bytes)), max_size=3))):
        read_or_refuse(memory)


@settings(relaxed, max_examples=6)
@given(st.data())
def test_the_real_header_damaged_takes_little_memory(real, data):
    memory, header_bytes = real
    changes = data.draw(st.lists(edits(positions(header_bytes)), min_size=1, max_size=1))
    with damage(memory, changes), memory_below(40 << 20):
        read_or_refuse(memory)
