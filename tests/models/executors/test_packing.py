"""How matrices become panels: their types, their sizes and the pieces they are packed in."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from lepton.kernels import _native
from lepton.kernels.quants import TensorType
from lepton.models.executors import Quantize, packing
from lepton.models.executors.native import NativeExecutor
from lepton.models.executors.packing import pack_matrix, packed_bytes, packed_types
from lepton.models.loader import load_network
from lepton.models.stages import Embed, Head, Linear, RmsNorm
from lepton.models.weights import TensorInfo

FLOATS = (TensorType.F32, TensorType.F16, TensorType.BF16)
CHOICES: tuple[Quantize, ...] = ("none", "int8", "int4")
VOCAB = 300
STAGES = (Embed("embedding"), Head(RmsNorm("norm", 1e-6), Linear("head")))


def tensor(type_: TensorType, *shape: int) -> TensorInfo:
    return TensorInfo("weight", type_, shape, 0)


def types(type_: TensorType, columns: int, quantize: Quantize) -> dict[str, TensorType]:
    tensors = {name: tensor(type_, VOCAB, columns) for name in ("embedding", "head")}
    return packed_types(STAGES, tensors, quantize)


@pytest.mark.parametrize("type_", FLOATS)
def test_float_weights_become_what_was_asked_for(type_: TensorType) -> None:
    assert set(types(type_, 96, "none").values()) == {type_}
    assert set(types(type_, 96, "int8").values()) == {TensorType.Q8_0}
    assert set(types(type_, 100, "int8").values()) == {type_}


def test_what_errors_cost_most_in_keeps_more_bits(tiny_model) -> None:
    with load_network(tiny_model("qwen3").path) as network:
        kept = packed_types(network.stages, network.checkpoint.tensors, "int4")
    first = {name.removeprefix("model.layers.0."): kept[name] for name in kept}
    assert first["model.embed_tokens.weight"] is TensorType.Q8_0
    assert first["self_attn.v_proj.weight"] is TensorType.Q8_0
    assert first["mlp.down_proj.weight"] is TensorType.Q5_1
    for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj"):
        assert first[f"{name}.weight"] is TensorType.Q4_1


@pytest.mark.parametrize("type_", sorted(set(TensorType) - set(FLOATS)))
def test_quantized_weights_are_never_quantized_again(type_: TensorType) -> None:
    for quantize in CHOICES:
        assert set(types(type_, 256, quantize).values()) == {type_}


def test_sizes_are_those_of_the_panels() -> None:
    for type_ in TensorType:
        info = tensor(type_, 37, 512)
        assert packed_bytes(info, type_) == _native.Matrix(int(type_), 37, 512).nbytes
    assert packed_bytes(tensor(TensorType.F16, 512), None) == 2048


@pytest.mark.parametrize("quantize", CHOICES)
def test_pieces_make_the_same_matrix(
    tiny_model, monkeypatch: pytest.MonkeyPatch, quantize: Quantize
) -> None:
    pool = _native.ThreadPool(2)
    name = "model.layers.0.mlp.down_proj.weight"
    with load_network(tiny_model("qwen3").path) as network:
        kept = packed_types(network.stages, network.checkpoint.tensors, quantize)[name]
        whole = pack_matrix(network.checkpoint, name, kept, pool).unpack()
        monkeypatch.setattr(packing, "_PIECE_BYTES", 10_000)
        pieces = pack_matrix(network.checkpoint, name, kept, pool).unpack()
        exact = network.checkpoint.float32(name)
    np.testing.assert_array_equal(pieces, whole)
    step = {"none": 0.0, "int8": 0.006, "int4": 0.05}[quantize] * np.abs(exact).max()
    assert np.abs(pieces - exact).max() <= step


def test_quantized_models_stay_near_the_original(tiny_model, runner) -> None:
    ids = np.random.default_rng(1).integers(0, VOCAB, 100).tolist()
    distances = {}
    with load_network(tiny_model("llama").path) as network:
        logits = {}
        for quantize in CHOICES:
            executor = NativeExecutor(network, num_blocks=8, quantize=quantize)
            (logits[quantize],) = runner(executor, [ids]).run(lambda _, left: left)
    exact = logits["none"]
    for quantize in ("int8", "int4"):
        difference = logits[quantize] - exact
        distances[quantize] = np.sqrt((difference**2).mean() / (exact**2).mean())
    # The layers of a random model amplify errors; a wrong matrix gives a distance of about 1.4.
    assert 0 < distances["int8"] < 0.1
    assert 2 * distances["int8"] < distances["int4"] < 0.7


def test_nothing_to_quantize_is_told(smollm2_path, caplog: pytest.LogCaptureFixture) -> None:
    with load_network(smollm2_path) as network, caplog.at_level(logging.INFO):
        NativeExecutor(network, num_blocks=2, quantize="int4")
    assert "quantize int4 changes nothing" in caplog.text
    loaded = next(record for record in caplog.records if record.message == "loaded")
    assert loaded.fields["quantize"] == "int4"
    assert loaded.fields["weight_bytes"] > 90_000_000
