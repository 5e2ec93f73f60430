"""What the native executor of encoders refuses to load."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from lepton.engine import LLM
from lepton.errors import ModelFormatError

sys.path.append(str(Path(__file__).parents[1]))
from encoder_samples import WORDS, save_bert, tokenizer

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def modernbert(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("modernbert")
    torch.manual_seed(7)
    config = transformers.ModernBertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
    )
    transformers.ModernBertModel(config).eval().save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def damaged(folder: Path, copy: Path, name: str, place: tuple[int, ...], value: float) -> Path:
    """A copy of a model in which one weight is another."""
    tensors = load_file(folder / WEIGHTS)
    tensors[name][place] = value
    save_file(tensors, copy / WEIGHTS)
    for file in ("config.json", "tokenizer.json"):
        (copy / file).write_bytes((folder / file).read_bytes())
    return copy


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("options", [{"dtype": "int16"}, {"quantize": "int8"}], ids=str)
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("embeddings.word_embeddings.weight", (150, 3)),
        ("encoder.layer.1.attention.self.key.weight", (17, 31)),
        ("encoder.layer.0.output.dense.weight", (0, 0)),
    ],
)
def test_a_matrix_that_is_not_finite_is_named_with_its_row(
    name, place, options, value, bert, tmp_path
) -> None:
    folder = damaged(bert, tmp_path, name, place, value)
    with pytest.raises(
        ModelFormatError, match=rf"row {place[0]} holds .* export it again"
    ) as found:
        LLM(folder, **options)
    assert found.value.tensor == name
    assert found.value.file == str(folder)


@pytest.mark.parametrize("row", [3, 64 + 5])
def test_a_row_is_counted_in_its_tensor(row, modernbert, tmp_path) -> None:
    """Of which one half is the gate and the other the way up."""
    name = "layers.1.mlp.Wi.weight"
    folder = damaged(modernbert, tmp_path, name, (row, 1), np.nan)
    with pytest.raises(ModelFormatError, match=rf"row {row} holds") as found:
        LLM(folder)
    assert found.value.tensor == name


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("embeddings.position_embeddings.weight", (9, 0)),
        ("encoder.layer.0.attention.self.value.bias", (4,)),
        ("encoder.layer.1.output.LayerNorm.weight", (0,)),
        ("encoder.layer.1.output.LayerNorm.bias", (31,)),
    ],
)
def test_small_tensors_that_are_not_finite_are_named(name, place, bert, tmp_path) -> None:
    folder = damaged(bert, tmp_path, name, place, np.inf)
    with pytest.raises(ModelFormatError, match="not finite: the file is damaged") as found:
        LLM(folder)
    assert found.value.tensor == name


def test_the_model_itself_is_loaded(bert, modernbert) -> None:
    for folder in (bert, modernbert):
        with LLM(folder) as llm:
            assert np.isfinite(llm.embed("w5 w6")).all()
