"""Folders as sentence-transformers writes them, against its formulae written out here."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import save_file

from lepton.engine import LLM
from lepton.errors import ModelFormatError, RequestError

sys.path.append(str(Path(__file__).parent))
from encoder_samples import save_bert, tokenizer

EXECUTORS = [{"dtype": "float32"}, {"executor": "reference"}]
WIDTH = 32
KINDS = ("Transformer", "Pooling", "Dense", "Normalize")


def write_modules(folder: Path, kinds: tuple[str, ...], files: Mapping[str, object]) -> None:
    """``modules.json``, with each module but the first in a folder of its own, and other files."""
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{kind}" if place else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, kind in enumerate(kinds)
    ]
    for name, content in {"modules.json": modules, **files}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))


def states_of(folder: Path, text: str) -> np.ndarray:
    network = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return network(torch.tensor([tokenizer().encode(text).ids])).last_hidden_state[0].numpy()


def pooled(mode: str, states: np.ndarray, skipped: int) -> np.ndarray:
    """As ``Pooling.forward`` computes it, with an attention mask of 0 for what is skipped."""
    mask = (np.arange(len(states)) >= skipped)[:, None]
    match mode:
        case "cls_token":
            return states[0]
        case "mean_tokens":
            return (states * mask).sum(0) / mask.sum()
        case "max_tokens":
            return np.where(mask, states, -1e9).max(0)
        case "lasttoken":
            return states[np.flatnonzero(mask)[-1]]
    weights = np.arange(1, len(states) + 1)[:, None] * mask
    return (states * weights).sum(0) / weights.sum()


MODES = ["cls_token", "mean_tokens", "max_tokens", "lasttoken", "weightedmean_tokens"]


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", EXECUTORS, ids=str)
def test_pooling_with_a_prompt(mode, include_prompt, options, tmp_path) -> None:
    folder = save_bert(tmp_path)
    pooling = {f"pooling_mode_{mode}": True, "include_prompt": include_prompt}
    files = {
        "1_Pooling/config.json": pooling,
        "config_sentence_transformers.json": {"prompts": {"query": "w9 w10 "}},
    }
    write_modules(folder, KINDS[:2], files)
    expected = pooled(mode, states_of(folder, "w9 w10 w5 w6 w7"), 0 if include_prompt else 3)
    with LLM(folder, threads=1, **options) as llm:
        (found,) = llm.embed("w5 w6 w7", prompt_name="query")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_maps_normalization_and_length(tmp_path) -> None:
    folder = save_bert(tmp_path)
    dense = {"in_features": WIDTH, "out_features": 8, "bias": True}
    files = {
        "sentence_bert_config.json": {"max_seq_length": 5},
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "2_Dense/config.json": dense | {"activation_function": "torch.nn.modules.activation.Tanh"},
    }
    write_modules(folder, KINDS, files)
    random = np.random.default_rng(4)
    weight = random.standard_normal((8, WIDTH)).astype(np.float32)
    bias = random.standard_normal(8).astype(np.float32)
    save_file(
        {"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors"
    )
    mapped = np.tanh(states_of(folder, "w5 w6 w7").mean(0) @ weight.T + bias)
    with LLM(folder, dtype="float32", threads=1) as llm:
        (found,) = llm.embed("w5 w6 w7 w8 w9", long_texts="truncate")
    np.testing.assert_allclose(found, mapped / np.linalg.norm(mapped), atol=1e-5)


def test_a_prompt_that_fills_the_window(tmp_path) -> None:
    folder = save_bert(tmp_path)
    files = {
        "sentence_bert_config.json": {"max_seq_length": 8},
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "include_prompt": False},
        "config_sentence_transformers.json": {"prompts": {"query": "w9 " * 10}},
    }
    write_modules(folder, KINDS[:2], files)
    with LLM(folder, threads=1) as llm:
        with pytest.raises(RequestError, match="input 0 has no tokens left beside its prompt"):
            llm.embed("w5", prompt_name="query")
        assert llm.embed("w5").shape == (1, WIDTH)


def test_a_length_without_room_for_text(tmp_path) -> None:
    folder = save_bert(tmp_path)
    write_modules(folder, KINDS[:1], {"sentence_bert_config.json": {"max_seq_length": 2}})
    with pytest.raises(ModelFormatError, match=r"at most 2 tokens .* larger context_length"):
        LLM(folder, threads=1)
    with LLM(folder, threads=1, context_length=3) as llm:
        assert llm.embed("w5 w6").shape == (1, WIDTH)


CAUSES = {"vocab_size": 200, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2}
CAUSES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 80}


@pytest.mark.parametrize("windows", [{}, {"use_sliding_window": True, "sliding_window": 3}])
@pytest.mark.parametrize("options", EXECUTORS, ids=str)
def test_a_decoder_that_attends_in_both_directions(options, windows, tmp_path) -> None:
    torch.manual_seed(2)
    config = transformers.Qwen3Config(
        **CAUSES, head_dim=16, initializer_range=0.2, is_causal=False, max_window_layers=1,
        attn_implementation="eager", **windows,
    )  # fmt: skip
    network = transformers.Qwen3Model(config).eval()
    network.save_pretrained(tmp_path)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFormatError, match="'is_causal' is false"):
        LLM(tmp_path, threads=1)
    (tmp_path / "modules.json").write_text("[]")
    text = "w5 w6 w7 w8 w9 w10 w11 w12 w13"
    with torch.no_grad():
        states = network(torch.tensor([tokenizer().encode(text).ids])).last_hidden_state[0]
        expected = states.mean(0).numpy()
        network.config.is_causal = True
        causal = network(torch.tensor([tokenizer().encode(text).ids])).last_hidden_state[0]
    assert np.abs(expected - causal.mean(0).numpy()).max() > 0.01
    with LLM(tmp_path, threads=1, **options) as llm:
        (found,) = llm.embed(text)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_an_empty_text_for_a_decoder_without_special_tokens(tmp_path) -> None:
    torch.manual_seed(2)
    transformers.Qwen3Model(transformers.Qwen3Config(**CAUSES, head_dim=16)).save_pretrained(
        tmp_path
    )
    library = tokenizer()
    library.post_processor = None
    library.save(str(tmp_path / "tokenizer.json"))
    files = {
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "include_prompt": False},
        "config_sentence_transformers.json": {"prompts": {"query": "w9 w10 "}},
    }
    write_modules(tmp_path, KINDS[:2], files)
    with LLM(tmp_path, threads=1) as llm:
        with pytest.raises(RequestError, match="input 1 has no tokens left beside its prompt"):
            llm.embed(["w5", ""], prompt_name="query")
        with pytest.raises(RequestError, match="input 1 has no tokens"):
            llm.embed(["w5", ""])
        with pytest.raises(RequestError, match="text 2 of pair 3 has no tokens"):
            llm.encoder.score([("w5", "w6"), ("w5", "w6"), ("w7", "w6"), ("w5", "")])
