"""Methods that stand on an encoder, with a tiny one of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from lepton import LLM, LargeLanguageModel
from lepton.errors import ConfigurationError, RequestError
from lepton.models.catalogue import cached
from lepton.training import TrainedModel, TrainingConfig, train
from lepton.training.config import Method
from lepton.training.dataset import Dataset
from lepton.training.fewshot import pair_loss
from lepton.training.pretrained import find_pretrained, save_encoder


def test_head_learns_on_vectors_of_the_engine(
    encoder: str, shop: Dataset, shop_test: Dataset, tmp_path: Path
) -> None:
    config = TrainingConfig(method="head", encoder=encoder)
    model = TrainedModel.load(train(shop, config, out=tmp_path / "run"))
    right = model.scores(shop_test.texts).argmax(axis=1) == shop_test.targets
    assert right.mean() > 0.9
    together = model.scores(shop_test.texts[:4])
    alone = np.concatenate([model.scores([text]) for text in shop_test.texts[:4]])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_finetune_ends_in_a_run_that_the_engine_answers_alike(
    encoder: str, shop: Dataset, shop_test: Dataset, tmp_path: Path
) -> None:
    config = TrainingConfig(
        method="finetune", encoder=encoder, epochs=6, learning_rate=2e-3, max_tokens=16
    )
    run = train(shop, config, out=tmp_path / "run")
    model = TrainedModel.load(run)
    assert (run / "encoder" / "model.safetensors").is_file()
    right = model.scores(shop_test.texts).argmax(axis=1) == shop_test.targets
    assert right.mean() > 0.8
    # The engine's vectors are those of transformers on the tuned weights.
    tuned = transformers.BertModel.from_pretrained(run / "encoder").eval()
    library = tokenizers.Tokenizer.from_file(str(run / "encoder" / "tokenizer.json"))
    ids = torch.tensor([library.encode(shop_test.texts[0]).ids])
    with torch.no_grad():
        expected = tuned(input_ids=ids).last_hidden_state.mean(dim=1)[0].numpy()
    with LLM(run / "encoder") as llm:
        found = llm.embed([shop_test.texts[0]], normalize=False)[0]
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.999


def test_fewshot_tunes_on_pairs_and_the_engine_runs_it(
    encoder: str, shop: Dataset, shop_test: Dataset, tmp_path: Path
) -> None:
    few = shop.take(range(24))
    config = TrainingConfig(
        method="fewshot", encoder=encoder, epochs=10, learning_rate=1e-3, max_tokens=16
    )
    run = train(few, config, out=tmp_path / "run")
    model = TrainedModel.load(run)
    right = model.scores(shop_test.texts).argmax(axis=1) == shop_test.targets
    assert right.mean() > 0.7

    def nearness(folder: str | Path) -> float:
        """How much nearer texts of one label are than texts of two."""
        with LLM(folder) as llm:
            vectors = llm.embed(list(few.texts))
        equal = few.targets[:, None] == few.targets[None, :]
        cosines = vectors @ vectors.T
        return float(cosines[equal].mean() - cosines[~equal].mean())

    assert nearness(run / "encoder") > nearness(encoder) + 0.2


def test_a_tuning_that_diverges_is_stopped(encoder: str, shop: Dataset, tmp_path: Path) -> None:
    config = TrainingConfig(
        method="fewshot", encoder=encoder, epochs=3, learning_rate=1e30, max_tokens=16
    )
    with pytest.raises(ConfigurationError, match="Give a learning rate below 1e"):
        train(shop.take(range(24)), config, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_pairs_of_both_kinds_weigh_alike() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    assert float(pair_loss(vectors, torch.tensor([0, 0, 1]))) == pytest.approx(0.0)
    # One pair of equal labels with cosine 0, two of unequal labels with cosines 1 and 0.
    assert float(pair_loss(vectors, torch.tensor([0, 1, 0]))) == pytest.approx((1 + 0.5) / 2)


def test_auto_tries_fewshot_where_rows_are_few(encoder: str, shop: Dataset, tmp_path: Path) -> None:
    config = TrainingConfig(encoder=encoder, epochs=2)
    run = train(shop.take(range(24)), config, out=tmp_path / "few")
    assert set(_tried(run)) == {"linear", "head", "fewshot"}
    assert set(_tried(train(shop.joined(shop), config, out=tmp_path / "many"))) == {
        "linear",
        "head",
    }


def _tried(run: Path) -> dict[str, object]:
    tried: dict[str, object] = json.loads((run / "metrics.json").read_text())["choices"]["tried"]
    return tried


def test_the_catalogues_e5_becomes_a_folder_of_the_same_tokens_and_vectors(tmp_path: Path) -> None:
    path = cached("multilingual-e5-small")
    if path is None:
        pytest.skip("lepton models pull multilingual-e5-small")
    source = find_pretrained(str(path), 32, tmp_path)
    texts = [
        "Where is my parcel?",
        "我的包裹在哪里～",
        "ﬁne　Ｆull-width １２３ …",
        "a\tb  c\u200b",
    ]
    with LLM(str(path)) as llm:
        expected = llm.embed(texts, normalize=False)
    folder = save_encoder(source.encoder(), source, tmp_path)
    with LLM(folder) as llm:
        found = llm.embed(texts, normalize=False)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((found * expected).sum(axis=1) / lengths).min() > 0.999


@pytest.mark.parametrize("method", ["head", "finetune"])
def test_vectors_can_be_classified(
    method: Method, encoder: str, shop: Dataset, tmp_path: Path
) -> None:
    model = LargeLanguageModel(
        method=method,
        encoder=encoder,
        epochs=2,
        learning_rate=2e-3,
        max_tokens=16,
    )
    model.fit(shop.texts, [shop.labels[target] for target in shop.targets])
    vector = model.encode(shop.texts[0])
    assert vector.shape == (64,)
    named = [model.classify(model.encode(text)) for text in shop.texts]
    expected = [shop.labels[target] for target in shop.targets]
    assert np.mean([one == other for one, other in zip(named, expected, strict=True)]) > 0.5
    with pytest.raises(RequestError, match=r"has shape \(32,\)"):
        model.classify(vector[:32])
    model.save(tmp_path / "run@1")
    again = LargeLanguageModel.load(tmp_path / "run@1")
    np.testing.assert_array_equal(again.predict(shop.texts), model.predict(shop.texts))


def test_a_vector_is_refused_by_a_model_without_an_encoder(shop: Dataset) -> None:
    model = LargeLanguageModel(method="linear")
    model.fit(shop.texts, [shop.labels[target] for target in shop.targets])
    with pytest.raises(RequestError, match="linear has no encoder"):
        model.classify(np.zeros(64, np.float32))


def test_auto_keeps_the_better_one_and_names_both(
    encoder: str, shop: Dataset, tmp_path: Path
) -> None:
    run = train(shop, TrainingConfig(encoder=encoder), out=tmp_path / "run")
    metrics = (run / "metrics.json").read_text()
    assert '"tried"' in metrics
    assert '"term_weight"' in metrics
    missing = train(shop, TrainingConfig(encoder=str(tmp_path / "none")), out=tmp_path / "none")
    assert TrainedModel.load(missing).manifest.method == "linear"
    assert "passed_over" in (missing / "metrics.json").read_text()
