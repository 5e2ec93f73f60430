"""Loading: checkpoints that hold what their configuration demands, and those that do not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lepton.errors import ModelFormatError, ModelNotFoundError
from lepton.models.executors import build_executor, cache_bytes_per_block
from lepton.models.loader import load_model, load_network
from lepton.models.stages import Attention, Embed, GatedMlp, Head


@pytest.fixture
def folder(tiny_model, tmp_path) -> Path:
    """A copy of a small llama with biases to damage."""
    return Path(shutil.copytree(tiny_model("llama-biases").path, tmp_path / "copy"))


def change_tensors(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def change_config(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_stages_alternate_between_embedding_and_head(folder) -> None:
    with load_network(folder) as network:
        kinds = [type(stage) for stage in network.stages]
    assert kinds == [Embed, *[Attention, GatedMlp] * 4, Head]
    assert network.path == folder


def test_llama_from_gguf_turns_neighbours(tiny_model, tiny_gguf) -> None:
    tiny = tiny_model("llama")
    with load_network(tiny.path) as ours, load_network(tiny_gguf(tiny)) as theirs:
        assert not ours.stages[1].rope.interleaved
        assert theirs.stages[1].rope.interleaved
        assert replace(theirs.config, norm_epsilon=ours.config.norm_epsilon) == ours.config
        assert theirs.config.norm_epsilon == pytest.approx(ours.config.norm_epsilon)


def test_missing_tensor(folder) -> None:
    name = "model.layers.3.mlp.up_proj.weight"
    change_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelFormatError, match=r"missing, expected shape \(96, 64\)") as caught:
        load_network(folder)
    assert caught.value.tensor == name
    assert str(folder) in str(caught.value)


def test_tensor_of_another_shape(folder) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: np.zeros((64, 32), np.float32)}))
    with pytest.raises(ModelFormatError, match=r"shape \(64, 32\), expected \(64, 64\)") as caught:
        load_network(folder)
    assert caught.value.tensor == name


def test_a_vector_is_no_matrix_of_one_row(folder) -> None:
    def narrow(tensors) -> None:
        for layer in range(4):
            prefix = f"model.layers.{layer}.mlp."
            tensors[prefix + "gate_proj.weight"] = np.zeros(64, np.float32)
            tensors[prefix + "up_proj.weight"] = np.zeros((1, 64), np.float32)
            tensors[prefix + "down_proj.weight"] = np.zeros((64, 1), np.float32)

    change_tensors(folder, narrow)
    change_config(folder, intermediate_size=1)
    with pytest.raises(ModelFormatError, match=r"shape \(64,\), expected \(1, 64\)"):
        load_network(folder)


def test_tensor_that_no_stage_uses(folder) -> None:
    """Norms of query and key in a Llama: ignoring them would give another model."""
    name = "model.layers.1.self_attn.q_norm.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: np.ones(32, np.float32)}))
    with pytest.raises(ModelFormatError, match="not part of a llama model") as caught:
        load_network(folder)
    assert caught.value.tensor == name


def test_old_rope_buffers_are_passed_over(folder) -> None:
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    change_tensors(folder, lambda tensors: tensors.update({name: np.ones(16, np.float32)}))
    load_network(folder).close()


def test_biases_that_the_configuration_does_not_mention(folder) -> None:
    change_config(folder, attention_bias=False)
    with pytest.raises(ModelFormatError, match="not part of a llama model"):
        load_network(folder)


def test_configuration_larger_than_the_weights(folder) -> None:
    change_config(folder, num_hidden_layers=5)
    with pytest.raises(ModelFormatError, match=r"model\.layers\.4"):
        load_network(folder)


def test_untied_head_must_be_there(folder) -> None:
    change_tensors(folder, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(ModelFormatError, match=r"lm_head\.weight"):
        load_network(folder)
    change_config(folder, tie_word_embeddings=True)
    with load_network(folder) as network:
        assert network.stages[-1].output.weight == "model.embed_tokens.weight"


def test_nothing_there(tmp_path) -> None:
    with pytest.raises(ModelNotFoundError):
        load_model(tmp_path / "nothing")
    with pytest.raises(ModelNotFoundError):
        load_model("no-such-model")


def test_cache_size_is_known_before_building(folder) -> None:
    with load_network(folder) as network:
        executor = build_executor(network, "reference", num_blocks=3)
        # 4 layers, keys and values, 2 heads of 32 elements, 16 tokens, 4 bytes
        assert executor.bytes_per_block == 4 * 2 * 2 * 32 * 16 * 4
        assert executor.bytes_per_block == cache_bytes_per_block(network.config, "float32")
        native = build_executor(network, "native", num_blocks=3)
        assert native.bytes_per_block == cache_bytes_per_block(network.config, "bfloat16")


def test_a_whole_model(smollm2_path) -> None:
    with load_model(str(smollm2_path)) as model:
        assert model.name == smollm2_path.stem
        assert model.chat_template is not None
        assert model.tokenizer.vocab_size == model.config.vocab_size
