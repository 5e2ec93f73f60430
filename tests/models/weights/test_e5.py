"""The E5 container: a small one made here, cut and damaged at every place."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lepton.errors import ModelFormatError
from lepton.models.encoder_loader import load_encoder
from lepton.models.executors.encoder_base import EncoderBatch
from lepton.models.executors.encoder_native import NativeEncoder
from lepton.models.executors.encoder_reference import ReferenceEncoder
from lepton.models.weights import E5Checkpoint, open_checkpoint

HIDDEN, INNER, LAYERS, HEADS, POSITIONS = 32, 64, 2, 2, 40
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁he", "llo", "l", "o", "▁fine", "你", "好"]


def _blocks(random: np.random.Generator, rows: int, columns: int) -> bytes:
    scales = random.uniform(0.01, 0.03, (rows, columns // 32, 1)).astype("<f2").view(np.uint8)
    codes = random.integers(0, 256, (rows, columns // 32, 16), dtype=np.uint8)
    return np.concatenate([scales.reshape(rows, -1, 2), codes], axis=2).tobytes()


def build() -> bytes:
    random = np.random.default_rng(0)
    head = b"E5S1" + struct.pack(
        "<I7ifi", 1, HIDDEN, LAYERS, HEADS, INNER, len(PIECES), POSITIONS, 2, 1e-12, 32
    )
    texts = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes()
    scores = (-np.arange(len(PIECES), dtype="<f4")).tobytes()
    vocabulary = struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, texts)))
    ligature = struct.pack("<IB2I", 0xFB01, 2, ord("f"), ord("i"))
    replacements = struct.pack("<iI", 1, len(ligature)) + ligature
    tensors: list[tuple[str, int, bytes, int]] = []

    def floats(name: str, *shape: int) -> None:
        values = random.normal(0.5 if name.endswith("n.w") else 0, 0.2, shape).astype("<f4")
        tensors.append((name, 0, values.tobytes(), values.size))

    def matrix(name: str, rows: int, columns: int) -> None:
        tensors.append((name, 1, _blocks(random, rows, columns), rows * columns))

    matrix("emb.word", len(PIECES), HIDDEN)
    floats("emb.pos", POSITIONS, HIDDEN)
    floats("emb.type", 2, HIDDEN)
    floats("emb.ln.w", HIDDEN)
    floats("emb.ln.b", HIDDEN)
    for layer in range(LAYERS):
        for module in ("q", "k", "v", "ao"):
            matrix(f"l{layer}.{module}.w", HIDDEN, HIDDEN)
            floats(f"l{layer}.{module}.b", HIDDEN)
        matrix(f"l{layer}.fi.w", INNER, HIDDEN)
        floats(f"l{layer}.fi.b", INNER)
        matrix(f"l{layer}.fo.w", HIDDEN, INNER)
        floats(f"l{layer}.fo.b", HIDDEN)
        for module in ("aln", "oln"):
            floats(f"l{layer}.{module}.w", HIDDEN)
            floats(f"l{layer}.{module}.b", HIDDEN)
    before = head + vocabulary + offsets + scores + b"".join(texts) + replacements
    size = 4 + sum(2 + len(name) + 21 for name, *_ in tensors)
    start = len(before) + size
    directory, data = struct.pack("<i", len(tensors)), b""
    for name, kind, values, count in tensors:
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, count, start + len(data), len(values))
        data += values
    return before + directory + data


FILE = build()


@pytest.fixture
def path(tmp_path) -> Path:
    file = tmp_path / "small.bin"
    file.write_bytes(FILE)
    return file


def test_it_is_an_encoder_with_its_tokenizer(path) -> None:
    with load_encoder(path) as model:
        assert model.task == "embed"
        assert model.settings.prompts["query"] == "query: "
        assert model.tokenizer.tokens(["hello \ufb01ne"]) == [[5, 6, 9]]
        assert model.tokenizer.wrap([5]) == [0, 5, 2]
        batch = EncoderBatch(np.array([0, 5, 6, 2], np.int32), np.array([0, 4], np.int32))
        expected = ReferenceEncoder(model).forward(batch, "mean")
        found = NativeEncoder(model, dtype="float32").forward(batch, "mean")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_names_and_shapes(path) -> None:
    with open_checkpoint(path) as checkpoint:
        assert isinstance(checkpoint, E5Checkpoint)
        info = checkpoint.info("encoder.layer.1.intermediate.dense.weight")
        assert info.shape == (INNER, HIDDEN)
        assert checkpoint.float32(info.name).shape == (INNER, HIDDEN)


@given(end=st.integers(4, len(FILE) - 1))
@settings(max_examples=60, deadline=None)
def test_a_file_that_ends_early_is_refused(end, tmp_path_factory) -> None:
    file = tmp_path_factory.mktemp("cut") / "cut.bin"
    file.write_bytes(FILE[:end])
    with pytest.raises(ModelFormatError):
        load_encoder(file)


@given(place=st.integers(4, 600), value=st.integers(0, 255))
@example(place=8, value=1)
@settings(max_examples=150, deadline=None)
def test_damage_is_refused_or_harmless(place, value, tmp_path_factory) -> None:
    file = tmp_path_factory.mktemp("damaged") / "damaged.bin"
    file.write_bytes(FILE[:place] + bytes([value]) + FILE[place + 1 :])
    with contextlib.suppress(ModelFormatError):
        load_encoder(file).close()
