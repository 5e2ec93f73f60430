"""Pairs of texts in cross-encoders of every family, against transformers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from lepton.engine import LLM
from lepton.errors import RequestError

sys.path.append(str(Path(__file__).parent))
from encoder_samples import tokenizer

SIZES = {
    "vocab_size": 200,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 80,
    "initializer_range": 0.2,
    "num_labels": 1,
}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SIZES),
    "bert-one-kind": lambda: transformers.BertConfig(**SIZES, type_vocab_size=1),
    "roberta": lambda: transformers.RobertaConfig(**SIZES, pad_token_id=1, type_vocab_size=1),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(
        **SIZES, pad_token_id=1, type_vocab_size=1
    ),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=200, dim=48, hidden_dim=80, n_layers=2, n_heads=4, num_labels=1,
        max_position_embeddings=80, initializer_range=0.2,
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SIZES, local_attention=10, pad_token_id=0, cls_token_id=2, sep_token_id=3
    ),
}  # fmt: skip
EXECUTORS = [{"dtype": "float32"}, {"executor": "reference"}]
DOCUMENTS = ["w7", "w8 w9 w10", ""]


@pytest.mark.parametrize("options", EXECUTORS, ids=str)
@pytest.mark.parametrize("family", CONFIGS)
def test_pairs_are_scored_as_transformers_does(family, options, tmp_path) -> None:
    torch.manual_seed(1)
    network = transformers.AutoModelForSequenceClassification.from_config(CONFIGS[family]()).eval()
    network.save_pretrained(tmp_path)
    library = tokenizer()
    library.save(str(tmp_path / "tokenizer.json"))
    expected = []
    for document in DOCUMENTS:
        pair = library.encode("w5 w6", document)
        assert 1 in pair.type_ids
        kinds = {"token_type_ids": torch.tensor([pair.type_ids])} if family == "bert" else {}
        with torch.no_grad():
            logits = network(torch.tensor([pair.ids]), **kinds).logits
        expected.append(logits.sigmoid().item())
    with LLM(tmp_path, threads=1, **options) as llm:
        ranked = {entry.index: entry.score for entry in llm.rerank("w5 w6", DOCUMENTS)}
    np.testing.assert_allclose([ranked[place] for place in range(3)], expected, atol=2e-5)


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranker")
    config = CONFIGS["bert"]()
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    with LLM(folder, dtype="float32", threads=1) as llm:
        yield llm


def test_errors_name_the_document(ranker) -> None:
    with pytest.raises(RequestError, match="document 2 is not valid Unicode"):
        ranker.rerank("w5", ["w6", "w6", "\ud800"])
    with pytest.raises(RequestError, match="the query is NoneType"):
        ranker.rerank(None, ["w6"])
    with pytest.raises(RequestError, match="top_n must be at least 1"):
        ranker.rerank("w5", ["w6", "w7"], top_n=-1)
    with pytest.raises(RequestError, match="list of texts"):
        ranker.rerank("w5", "w6")


def test_errors_name_the_pair_beyond_the_first_group(ranker) -> None:
    pairs = [("w5", "w6")] * 4100 + [("w5", "\ud800")]
    with pytest.raises(RequestError, match="text 2 of pair 4100 is not valid Unicode"):
        ranker.encoder.score(pairs)
