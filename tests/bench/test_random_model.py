"""Random models are valid in every type, have plausible weights, and run."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from bench.random_model import Q4_K_M, LlamaShape, pure, write_random_llama

from lepton import LLM, SamplingParams
from lepton.kernels.quants import TensorType
from lepton.models.weights import open_checkpoint

SHAPE = LlamaShape(256, 512, 8, 4, 2, vocab_size=300, tied_embeddings=True)
VOCABULARY = 49_152 + 7


@pytest.fixture(scope="module")
def small_tokenizer(tmp_path_factory) -> Path:
    """A file with a tokenizer of 256 tokens and nothing else."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([f"{code:02x}" for code in range(256)])
    writer.add_token_types([1] * 256)
    writer.add_token_merges(["0 1"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("tensor_type", TensorType, ids=lambda kind: kind.name)
def test_weights_are_of_the_type_and_look_trained(tmp_path, small_tokenizer, tensor_type) -> None:
    path = tmp_path / "model.gguf"
    write_random_llama(path, SHAPE, pure(tensor_type), small_tokenizer)
    checkpoint = open_checkpoint(path)
    name = "blk.3.ffn_up.weight"
    assert checkpoint.tensors[name].type is tensor_type
    weights = checkpoint.float32(name)
    assert weights.shape == (512, 256)
    assert abs(weights.mean()) < 0.003
    assert weights.std() == pytest.approx(0.02, rel=0.05)
    assert (checkpoint.float32("blk.3.attn_norm.weight") == 1).all()
    checkpoint.close()


@pytest.mark.parametrize("tied", [True, False])
def test_a_mix_runs(tmp_path, smollm2_path, tied) -> None:
    path = tmp_path / "model.gguf"
    shape = LlamaShape(256, 512, 8, 4, 2, vocab_size=VOCABULARY, tied_embeddings=tied)
    write_random_llama(path, shape, Q4_K_M, smollm2_path)
    checkpoint = open_checkpoint(path)
    types = {info.type for info in checkpoint.tensors.values()}
    checkpoint.close()
    assert types == {TensorType.Q4_K, TensorType.Q6_K, TensorType.F32}
    with LLM(path, max_sequences=1, context_length=64) as llm:
        assert llm.tokenizer.encode("Hello") != []
        assert np.isfinite(llm.logits([1, 2, 3])).all()
        params = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
        assert len(llm.generate([[5, 6, 7]], params)[0].outputs[0].token_ids) == 4


def test_a_vocabulary_is_never_cut(tmp_path, small_tokenizer) -> None:
    shape = LlamaShape(256, 512, 1, 4, 2, vocab_size=100, tied_embeddings=True)
    with pytest.raises(ValueError, match="more than 100"):
        write_random_llama(tmp_path / "model.gguf", shape, Q4_K_M, small_tokenizer)
    assert not (tmp_path / "model.gguf").exists()
