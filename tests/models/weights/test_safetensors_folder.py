"""Safetensors folders, whole and in shards, sound and damaged."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lepton.errors import ModelFormatError, ModelNotFoundError
from lepton.kernels.quants import TensorType
from lepton.models.weights import SafetensorsCheckpoint, open_checkpoint

WEIGHTS = {
    "single": torch.linspace(-3, 3, 35).reshape(5, 7),
    "half": torch.linspace(-3, 3, 24, dtype=torch.float16).reshape(2, 3, 4),
    "brain": torch.linspace(-3, 3, 9, dtype=torch.bfloat16),
    "scalar": torch.tensor(2.5),
    "nothing": torch.empty(0, 4),
}
TYPES = {
    "single": TensorType.F32,
    "half": TensorType.F16,
    "brain": TensorType.BF16,
    "scalar": TensorType.F32,
    "nothing": TensorType.F32,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "eos_token_id": [1, 2]}')
    return tmp_path


def write_index(folder, weight_map):
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_header(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def assert_holds_the_weights(folder):
    with open_checkpoint(folder) as checkpoint:
        assert isinstance(checkpoint, SafetensorsCheckpoint)
        assert checkpoint.format == "safetensors"
        assert checkpoint.path == folder
        assert checkpoint.metadata["eos_token_id"] == [1, 2]
        assert set(checkpoint.tensors) == set(WEIGHTS)
        for name, weight in WEIGHTS.items():
            info = checkpoint.info(name)
            assert (info.name, info.type) == (name, TYPES[name])
            assert info.shape == tuple(weight.shape)
            raw = checkpoint.raw(name)
            assert raw.shape == (info.nbytes,)
            assert not raw.flags.writeable
            assert raw.tobytes() == weight.reshape(-1).view(torch.uint8).numpy().tobytes()
            assert np.array_equal(checkpoint.float32(name), weight.float().numpy())


def test_a_single_file(folder):
    save_file(WEIGHTS, folder / "model.safetensors", metadata={"format": "pt"})
    assert_holds_the_weights(folder)


def test_shards(folder):
    shards = {name: f"model-{len(name) % 2}.safetensors" for name in WEIGHTS}
    for shard in set(shards.values()):
        part = {name: WEIGHTS[name] for name in WEIGHTS if shards[name] == shard}
        save_file(part, folder / shard)
    write_index(folder, shards)
    assert_holds_the_weights(folder)


def test_raw_bytes_are_views_that_outlive_closing(folder):
    save_file(WEIGHTS, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    raw = checkpoint.raw("single")
    assert np.shares_memory(raw, checkpoint.raw("single"))
    checkpoint.close()
    assert raw.view(np.float32)[0] == -3
    with pytest.raises(ValueError, match="is closed"):
        checkpoint.raw("single")


def test_integer_buffers_are_passed_over(folder):
    buffers = {"embeddings.position_ids": torch.arange(5), "mask": torch.ones(3, dtype=torch.bool)}
    save_file(WEIGHTS | buffers, folder / "model.safetensors")
    assert_holds_the_weights(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.uint8, torch.float8_e4m3fn])
def test_other_types_are_refused_by_name(folder, dtype):
    save_file({"a": WEIGHTS["single"], "b": torch.ones(4).to(dtype)}, folder / "model.safetensors")
    with pytest.raises(ModelFormatError, match=r"type .* is not supported; .* F32, F16, BF16") as e:
        open_checkpoint(folder)
    assert e.value.tensor == "b"
    assert e.value.file.endswith("model.safetensors")


def test_a_missing_tensor_is_named(folder):
    save_file(WEIGHTS, folder / "model.safetensors")
    with open_checkpoint(folder) as checkpoint, pytest.raises(ModelFormatError) as caught:
        checkpoint.float32("lm_head.weight")
    assert caught.value.tensor == "lm_head.weight"


def test_every_shortened_file_is_refused(folder):
    path = folder / "model.safetensors"
    save_file(WEIGHTS, path)
    whole = path.read_bytes()
    for length in [*range(64), *range(64, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
            open_checkpoint(folder)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        open_checkpoint(folder)


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"\xff" * 20,
        b"[" * 100_000,
        [1, 2],
        {"a": entry([2**62, 2**62], 0, 16)},
        {"a": entry([4], 0, 2**64 - 1)},
        {"a": entry([4], 8, 24)},
        {"a": entry([4], 16, 0)},
        {"a": entry([-4], 0, 16)},
        {"a": entry([4], 0, 16), "b": entry([4], 0, 16)},
        {"a": entry([4], 0, 16), "b": entry([2], 8, 16)},
        {"a": entry([3], 0, 16)},
        {"a": entry([4], 0, 16, "F33")},
        {"a": {"dtype": "F32"}},
    ],
)
def test_damaged_headers_are_refused(folder, header):
    write_header(folder / "model.safetensors", header, bytes(16))
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        open_checkpoint(folder)


def test_a_header_longer_than_the_file_or_the_limit_is_refused(folder):
    path = folder / "model.safetensors"
    for claim in (2**64 - 1, 2**40, 57):
        path.write_bytes(struct.pack("<Q", claim) + bytes(56))
        with pytest.raises(ModelFormatError, match="is said to take") as caught:
            open_checkpoint(folder)
        assert caught.value.offset == 0
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", 1 << 30))
        file.truncate(1 << 31)
    with pytest.raises(ModelFormatError, match="16,777,216 are allowed"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "shard",
    [
        "../model.safetensors",
        "/etc/model.safetensors",
        "sub/model.safetensors",
        "..\\model.safetensors",
        "model\0.safetensors",
        "\ud800.safetensors",
        "pytorch_model.bin",
        "..",
        "",
        7,
        None,
        ["model.safetensors"],
    ],
)
def test_shards_outside_the_folder_are_refused(folder, shard):
    save_file(WEIGHTS, folder.parent / "model.safetensors")
    write_index(folder, {"single": shard})
    with pytest.raises(ModelFormatError, match=r"not the name of a \.safetensors file") as caught:
        open_checkpoint(folder)
    assert caught.value.tensor == "single"
    assert caught.value.file.endswith("index.json")


def test_a_missing_shard_and_a_tensor_that_is_in_no_shard(folder):
    write_index(folder, {"single": "a.safetensors", "lost": "a.safetensors"})
    with pytest.raises(ModelNotFoundError, match=r"a\.safetensors cannot be read: No such file"):
        open_checkpoint(folder)
    save_file({"single": WEIGHTS["single"]}, folder / "a.safetensors")
    with pytest.raises(ModelFormatError, match="does not have it") as caught:
        open_checkpoint(folder)
    assert caught.value.tensor == "lost"


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {}}])
def test_an_index_without_a_map_is_refused(folder, index):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFormatError, match="no 'weight_map'"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe\xfd", "not valid JSON"),
        (b"[" * 1_000_000, "not valid JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b" " * (4 << 20) + b"{}", "larger than the 4,194,304 bytes allowed"),
    ],
    ids=["empty", "cut", "bytes", "deep", "digits", "array", "large"],
)
def test_a_damaged_configuration_is_refused(folder, text, message):
    save_file(WEIGHTS, folder / "model.safetensors")
    (folder / "config.json").write_bytes(text)
    with pytest.raises(ModelFormatError, match=message) as caught:
        open_checkpoint(folder)
    assert caught.value.file.endswith("config.json")


def test_a_missing_configuration_is_named(folder):
    save_file(WEIGHTS, folder / "model.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json"):
        open_checkpoint(folder)
