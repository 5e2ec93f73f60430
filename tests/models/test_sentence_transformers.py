"""What the settings files of sentence-transformers, of all its versions, mean for a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from lepton.engine import LLM
from lepton.errors import ModelFormatError
from lepton.models.encoder_loader import load_encoder

sys.path.append(str(Path(__file__).parent))
from encoder_samples import save_bert

WIDTH = 32


def write(folder: Path, name: str, value: object) -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value))


def list_modules(folder: Path, *kinds: str) -> None:
    """A module for each kind, in a folder of its own but for the first."""
    modules = [
        {"path": f"{place}_{kind}" if place else "", "type": f"sentence_transformers.models.{kind}"}
        for place, kind in enumerate(kinds)
    ]
    write(folder, "modules.json", modules)
    for module, kind in zip(modules, kinds, strict=True):
        if kind == "Pooling":
            write(folder, f"{module['path']}/config.json", {"pooling_mode_mean_tokens": True})
        if kind == "Dense":
            config = {
                "in_features": WIDTH, "out_features": WIDTH, "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            }  # fmt: skip
            write(folder, f"{module['path']}/config.json", config)
            safetensors.numpy.save_file(
                {"linear.weight": dense_weight()}, folder / module["path"] / "model.safetensors"
            )


def dense_weight() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(WIDTH, WIDTH)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_bert(tmp_path)


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"]
)
def test_the_transformer_file_is_read_under_each_of_its_names(folder: Path, kind: str) -> None:
    list_modules(folder, "Transformer", "Pooling")
    config = {"max_seq_length": 12, "do_lower_case": True}
    write(folder, f"sentence_{kind}_config.json", config)
    with load_encoder(folder) as model:
        assert model.max_tokens == 12
        assert model.tokenizer.tokens(["W5 w6"]) == [[5, 6]]


def test_case_stays_where_no_file_says_otherwise(folder: Path) -> None:
    list_modules(folder, "Transformer", "Pooling")
    write(folder, "sentence_bert_config.json", {"do_lower_case": False})
    with load_encoder(folder) as model:
        assert model.tokenizer.tokens(["W5 w6"]) == [[4, 6]]


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    ("length", "expected"), [(20, 20), (int(1e30), 64), (1e30, 64), (0, 64), (None, 64)]
)
def test_without_a_length_of_its_own_a_model_has_the_tokenizers(
    folder: Path, listed: bool, length: float | None, expected: int
) -> None:
    write(folder, "tokenizer_config.json", {"model_max_length": length})
    if listed:
        list_modules(folder, "Transformer", "Pooling")
        write(folder, "sentence_bert_config.json", {"max_seq_length": None})
    with load_encoder(folder) as model:
        assert model.max_tokens == expected


def test_its_own_length_goes_before_the_tokenizers(folder: Path) -> None:
    write(folder, "tokenizer_config.json", {"model_max_length": 20})
    list_modules(folder, "Transformer", "Pooling")
    write(folder, "sentence_bert_config.json", {"max_seq_length": 40})
    with load_encoder(folder) as model:
        assert model.max_tokens == 40


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("kinds", "steps"),
    [
        (["Dense"], ["map"]),
        (["Dense", "Normalize"], ["map", "unit"]),
        (["Normalize", "Dense"], ["unit", "map"]),
        (["Normalize", "Dense", "Normalize"], ["unit", "map", "unit"]),
        (["Dense", "Normalize", "Dense"], ["map", "unit", "map"]),
    ],
)
def test_maps_and_normalization_come_in_the_order_of_the_modules(
    folder: Path, kinds: list[str], steps: list[str]
) -> None:
    texts = ["w5 w6 w7", "w8"]
    with LLM(folder, dtype="float32", threads=1) as llm:
        expected = llm.embed(texts)
    list_modules(folder, "Transformer", "Pooling", *kinds)
    for step in steps:
        expected = unit(expected) if step == "unit" else expected @ dense_weight().T
    with LLM(folder, dtype="float32", threads=1) as llm:
        np.testing.assert_allclose(llm.embed(texts), expected, rtol=2e-5, atol=1e-5)


@pytest.fixture
def ranker(tmp_path: Path) -> Path:
    return save_bert(tmp_path, "BertForSequenceClassification", num_labels=1)


def add_to_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    write(folder, "config.json", {**config, **values})


IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"


@pytest.mark.parametrize(
    ("values", "squashed"),
    [
        ({}, True),
        ({"sbert_ce_default_activation_function": None}, True),
        ({"sbert_ce_default_activation_function": SIGMOID}, True),
        ({"sbert_ce_default_activation_function": IDENTITY}, False),
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "5"}}, False),
        (
            {
                "sentence_transformers": {"activation_fn": SIGMOID},
                "sbert_ce_default_activation_function": IDENTITY,
            },
            True,
        ),
    ],
)
def test_scores_are_squashed_as_the_config_says(
    ranker: Path, values: dict[str, object], squashed: bool
) -> None:
    add_to_config(ranker, sbert_ce_default_activation_function=IDENTITY)
    with LLM(ranker, dtype="float32", threads=1) as llm:
        (logit,) = llm.rerank("w5 w6", ["w7 w8"])
    config = json.loads((ranker / "config.json").read_text())
    del config["sbert_ce_default_activation_function"]
    write(ranker, "config.json", {**config, **values})
    with LLM(ranker, dtype="float32", threads=1) as llm:
        (found,) = llm.rerank("w5 w6", ["w7 w8"])
    expected = 1 / (1 + np.exp(-logit.score)) if squashed else logit.score
    assert found.score == pytest.approx(expected, rel=1e-6)


def test_scores_squashed_otherwise_are_refused(ranker: Path) -> None:
    add_to_config(ranker, sbert_ce_default_activation_function="torch.nn.modules.activation.Tanh")
    with pytest.raises(ModelFormatError, match="Sigmoid and Identity are"):
        load_encoder(ranker)
