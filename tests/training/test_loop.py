from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from lepton.training import TrainedModel, TrainingConfig, loop, train
from lepton.training.config import ARCHITECTURES, Method
from lepton.training.dataset import Dataset
from lepton.training.loop import learning_rate
from lepton.training.vectors import corpus_vectors, read_vectors

SMALL = {"width": 32, "heads": 4, "feed_forward": 64, "layers": 1, "vocabulary_size": 300}


@pytest.mark.parametrize("method", ARCHITECTURES)
def test_every_architecture_learns(
    method: Method, shop: Dataset, shop_test: Dataset, tmp_path: Path
) -> None:
    config = TrainingConfig(
        method=method, epochs=15, patience=15, learning_rate=5e-3, batch_size=16, **SMALL
    )
    run = train(shop, config, out=tmp_path / "run")
    model = TrainedModel.load(run)
    right = model.scores(shop_test.texts).argmax(axis=1) == shop_test.targets
    assert right.mean() > 0.8
    curves = (run / "curves.csv").read_text().splitlines()
    assert curves[0] == "epoch,train_loss,validation_loss,score,learning_rate"
    assert len(curves) == 16
    assert (run / "baseline" / "run.json").is_file()


def test_an_interrupted_training_ends_as_it_would_have(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    config = TrainingConfig(
        method="bilstm", epochs=3, batch_size=8, accumulation=2, patience=9, **SMALL
    )
    whole = train(shop, config, out=tmp_path / "whole")

    def stop(stage: str, done: int, total: int | None, metrics: object) -> None:
        if stage == "epoch" and done == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(shop, config, out=tmp_path / "cut", progress=stop)
    continued: list[int] = []

    def watch(stage: str, done: int, total: int | None, metrics: object) -> None:
        if stage == "epoch":
            continued.append(done)

    cut = train(shop, config, out=tmp_path / "cut", progress=watch)
    assert cut.name == "cut@1"
    assert continued[0] > 10
    assert (cut / "curves.csv").read_text() == (whole / "curves.csv").read_text()
    np.testing.assert_array_equal(
        TrainedModel.load(cut).scores(shop.texts), TrainedModel.load(whole).scores(shop.texts)
    )


def test_the_step_size_rises_then_falls() -> None:
    config = TrainingConfig(method="bag", learning_rate=1.0, warmup_share=0.1)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    cosine = TrainingConfig(schedule="cosine", learning_rate=1.0, warmup_share=0.0)
    assert learning_rate(cosine, 50, 100) == pytest.approx(0.5)
    constant = TrainingConfig(schedule="constant", learning_rate=1.0, warmup_share=0.0)
    assert learning_rate(constant, 99, 100) == 1.0


def test_word_vectors_from_a_file_and_from_the_corpus(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("3 2\nred 1 0\nfox 0.5 -1\nbird 9 9\n")
    found = read_vectors(file, ["red", "green", "fox"], 2)
    np.testing.assert_array_equal(found[[0, 2]], [[1, 0], [0.5, -1]])
    assert np.isnan(found[1]).all()
    learned = corpus_vectors([[2, 3, 2], [2, 3]] * 20, 5, 8, seed=0)
    assert np.isfinite(learned[[2, 3]]).all()
    assert math.isnan(learned[4, 0])
