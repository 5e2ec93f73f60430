"""GGUF checkpoints, held against the gguf package on written and on real files."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from lepton.errors import ModelFormatError
from lepton.kernels.quants import TensorType, row_bytes
from lepton.models.weights import GgufCheckpoint


@pytest.fixture
def every_type(tmp_path):
    """A file with one tensor of each type, of random bytes, and what the bytes are."""
    path = tmp_path / "every.gguf"
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokens", ["<s>", "你好", "\n"])
    writer.add_array("scores", [0.5, -1.0])
    stored = {}
    for tensor_type in TensorType:
        shape = (3, row_bytes(tensor_type, 512))
        stored[tensor_type.name] = random.integers(0, 256, shape, dtype=np.uint8)
        kind = gguf.GGMLQuantizationType(tensor_type.value)
        writer.add_tensor(tensor_type.name, stored[tensor_type.name], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, stored


def test_every_type_is_read_as_it_was_written(every_type):
    path, stored = every_type
    with GgufCheckpoint(path) as checkpoint:
        assert checkpoint.format == "gguf"
        assert checkpoint.path == path
        assert checkpoint.metadata["general.architecture"] == "llama"
        assert checkpoint.metadata["tokens"] == ["<s>", "你好", "\n"]
        assert checkpoint.metadata["scores"].tolist() == [0.5, -1.0]
        assert list(checkpoint.tensors) == [tensor_type.name for tensor_type in TensorType]
        for name, info in checkpoint.tensors.items():
            assert (info.name, info.type.name, info.shape) == (name, name, (3, 512))
            assert info.nbytes == stored[name].size
            assert np.array_equal(checkpoint.raw(name), stored[name].reshape(-1))
            with np.errstate(all="ignore"):
                expected = gguf.dequantize(stored[name], gguf.GGMLQuantizationType(info.type))
            assert np.array_equal(checkpoint.float32(name), expected, equal_nan=True)


def test_raw_bytes_are_a_view_that_cannot_be_written_and_outlives_closing(every_type):
    path, stored = every_type
    checkpoint = GgufCheckpoint(path)
    first, second = checkpoint.raw("Q4_1"), checkpoint.raw("Q4_1")
    assert np.shares_memory(first, second)
    assert first.dtype == np.uint8
    assert first.shape == (checkpoint.info("Q4_1").nbytes,)
    with pytest.raises(ValueError):
        first[0] = 1
    with pytest.raises(ValueError):
        first.setflags(write=True)
    checkpoint.close()
    checkpoint.close()
    assert np.array_equal(first, stored["Q4_1"].reshape(-1))
    with pytest.raises(ValueError, match="is closed"):
        checkpoint.raw("Q4_1")


def test_metadata_and_tensor_tables_cannot_be_changed(every_type):
    with GgufCheckpoint(every_type[0]) as checkpoint:
        for table in (checkpoint.metadata, checkpoint.tensors):
            with pytest.raises(TypeError):
                table["new"] = 1


def test_a_tensor_that_is_not_there_is_named(every_type):
    with GgufCheckpoint(every_type[0]) as checkpoint:
        for read in (checkpoint.raw, checkpoint.float32, checkpoint.info):
            with pytest.raises(
                ModelFormatError, match=r"every\.gguf, tensor 'missing': .* no such"
            ):
                read("missing")


def test_a_file_shortened_while_in_use_is_refused(every_type):
    path, _ = every_type
    with GgufCheckpoint(path) as checkpoint:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 4096)
        with pytest.raises(ModelFormatError, match=r"changed from .* load the model again"):
            checkpoint.raw("F32")


def test_a_download_that_stopped_early_is_refused(every_type):
    path, _ = every_type
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(ModelFormatError, match="not downloaded completely") as caught:
        GgufCheckpoint(path)
    assert caught.value.tensor in {tensor_type.name for tensor_type in TensorType}


def same_value(ours, field):
    theirs = field.contents()
    return (ours.tolist() if isinstance(ours, np.ndarray) else ours) == theirs


def test_the_real_chat_model_reads_as_with_the_gguf_package(smollm2_path):
    theirs = gguf.GGUFReader(smollm2_path)
    with GgufCheckpoint(smollm2_path) as ours:
        fields = {name: field for name, field in theirs.fields.items() if name[:5] != "GGUF."}
        assert list(ours.metadata) == list(fields)
        assert all(same_value(ours.metadata[name], field) for name, field in fields.items())
        assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
        for tensor in theirs.tensors:
            info = ours.info(tensor.name)
            assert info.type == tensor.tensor_type
            assert info.shape == tuple(reversed(tensor.shape.tolist()))
            assert np.array_equal(ours.raw(tensor.name), tensor.data.view(np.uint8).reshape(-1))


def test_tensors_of_the_real_gemma_decode_as_with_the_gguf_package(gemma3_path):
    names = ["output_norm.weight", *(f"blk.{layer}.ffn_down.weight" for layer in (0, 5))]
    names += [f"blk.{layer}.attn_{part}.weight" for layer in (0, 5) for part in ("q", "v")]
    with GgufCheckpoint(gemma3_path) as checkpoint:
        assert len(checkpoint.metadata["tokenizer.ggml.tokens"]) == 262_144
        types = set()
        for name in names:
            info = checkpoint.info(name)
            rows = checkpoint.raw(name).reshape(-1, row_bytes(info.type, info.shape[-1]))
            expected = gguf.dequantize(rows, gguf.GGMLQuantizationType(info.type))
            assert np.array_equal(checkpoint.float32(name), expected.reshape(info.shape))
            types.add(info.type)
        assert types >= {TensorType.F32, TensorType.Q5_0, TensorType.Q8_0}
