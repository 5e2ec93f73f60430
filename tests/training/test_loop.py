from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lepton.errors import ConfigurationError, DataError
from lepton.training import TrainedModel, TrainingConfig, loop, make_dataset, train
from lepton.training.config import ARCHITECTURES, Method
from lepton.training.dataset import Dataset
from lepton.training.loop import Loop, Trained, learning_rate, loss_function
from lepton.training.scorers import no_progress
from lepton.training.vectors import corpus_vectors, read_vectors, vectors_width

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


def looped(tmp_path: Path, scores: np.ndarray, **settings: Any) -> Trained:
    """A training whose validation scores [2, 2] of the rows "a" and "b" are always the same."""
    rows = make_dataset(["a", "b"], ["x", "y"])
    module = torch.nn.Linear(1, 2)
    config = TrainingConfig(
        method="bag", epochs=9, batch_size=2, learning_rate=0.5, warmup_share=0.0, **settings
    )
    return Loop(
        module,
        rows,
        np.ones(2, np.int64),
        lambda indices: module(torch.ones(len(indices), 1)),
        lambda: scores,
        rows,
        config,
        tmp_path / "state.pt",
        no_progress,
    ).run()


def test_no_progress_ends_it_and_halves_the_step_on_a_plateau(tmp_path: Path) -> None:
    scores = np.eye(2, dtype=np.float32)
    trained = looped(tmp_path, scores, patience=3, schedule="plateau")
    assert [entry["learning_rate"] for entry in trained.curves] == [0.5, 0.5, 0.25, 0.125]
    assert trained.score == 1.0


def test_what_is_not_finite_ends_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"epoch 1.*learning rate below 0\.5"):
        looped(tmp_path, np.full((2, 2), np.inf, np.float32))


@pytest.mark.parametrize("objective", ["single", "regression"])
def test_a_training_that_diverges_leaves_nothing(
    objective: str, shop: Dataset, numbers: Dataset, tmp_path: Path
) -> None:
    config = TrainingConfig(method="bag", learning_rate=1e30, epochs=2, **SMALL)
    with pytest.raises(ConfigurationError, match="diverged"):
        train(shop if objective == "single" else numbers, config, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_rare_labels_weigh_as_much_as_frequent_ones() -> None:
    scores = torch.tensor([[2.0, 0.0]] * 4)
    rows = make_dataset(["a", "b", "c", "d"], ["x", "x", "x", "y"])
    loss = loss_function(rows, TrainingConfig(class_weights=True))
    x, y = -torch.log_softmax(scores[0], 0)
    assert float(loss(scores, torch.from_numpy(rows.targets))) == pytest.approx(float(x + y) / 2)
    plain = loss_function(rows, TrainingConfig())
    assert float(plain(scores, torch.from_numpy(rows.targets))) == pytest.approx(
        float(3 * x + y) / 4
    )
    several = make_dataset(["a", "b", "c", "d"], [["x"], ["x"], ["x"], ["x", "y"]])
    weighed = loss_function(several, TrainingConfig(class_weights=True))
    targets = torch.from_numpy(several.targets)
    # Of y three rows are without it and one is with it; x, which all rows have, weighs nothing.
    y = torch.nn.functional.softplus(torch.zeros(1))
    assert float(weighed(torch.zeros(4, 2), targets)) == pytest.approx(float(3 * y + 3 * y) / 8)


def test_smoothing_takes_from_the_label() -> None:
    scores = torch.tensor([[2.0, 0.0]])
    rows = make_dataset(["a", "b"], ["x", "y"]).take([0])
    loss = loss_function(rows, TrainingConfig(label_smoothing=0.2))
    x, y = -torch.log_softmax(scores[0], 0)
    expected = float(0.9 * x + 0.1 * y)
    assert float(loss(scores, torch.from_numpy(rows.targets))) == pytest.approx(expected)


def test_word_vectors_from_a_file_and_from_the_corpus(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("3 2\nred 1 0\nfox 0.5 -1\nbird 9 9\n")
    found = read_vectors(file, ["red", "green", "fox"], 2)
    np.testing.assert_array_equal(found[[0, 2]], [[1, 0], [0.5, -1]])
    assert np.isnan(found[1]).all()
    learned = corpus_vectors([[2, 3, 2], [2, 3]] * 20, 5, 8, seed=0)
    assert np.isfinite(learned[[2, 3]]).all()
    assert math.isnan(learned[4, 0])


@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_a_file_of_vectors_tells_their_width(header: str, tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(f"{header}red 1 0 \nfox 0.5 -1 \n")
    assert vectors_width(file) == 2
    file.write_text("red\n")
    with pytest.raises(DataError, match="no vectors"):
        vectors_width(file)
    with pytest.raises(DataError, match="cannot be read"):
        vectors_width(tmp_path / "none.txt")


def test_heads_are_checked_where_there_are_any() -> None:
    assert TrainingConfig(method="bag", width=50).width == 50
    with pytest.raises(ConfigurationError, match="heads"):
        TrainingConfig(method="transformer", width=50)
    with pytest.raises(ConfigurationError, match="heads"):
        TrainingConfig(method="transformer", heads=3).resolved()
