from __future__ import annotations

import json
import pickletools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lepton.errors import ConfigurationError, DataError, ModelFormatError, ModelNotFoundError
from lepton.training import TrainedModel, TrainingConfig, make_dataset, train
from lepton.training.dataset import Dataset
from lepton.training.run import MANIFEST, locate_run, read_manifest, versions


def test_a_run_holds_everything_and_no_pickle(linear_run: Path) -> None:
    names = {path.name for path in linear_run.iterdir()}
    assert {"run.json", "metrics.json", "model.safetensors", "vocabulary.json"} <= names
    assert names.isdisjoint({"begun.json", "state", ".lock"})
    manifest = read_manifest(linear_run)
    assert (manifest.full_name, manifest.method) == ("shop@1", "linear")
    assert "| refund | 30 |" in (linear_run / "README.md").read_text()
    for path in linear_run.rglob("*"):
        if path.is_file():
            with pytest.raises(ValueError):
                list(pickletools.genops(path.read_bytes()))


def test_a_run_predicts_without_what_trained_it(linear_run: Path, shop: Dataset) -> None:
    script = (
        "import sys, json; from lepton.training import TrainedModel;"
        "model = TrainedModel.load(sys.argv[1]);"
        "answers = model.predict(['refund money', '快递 物流']);"
        "print(json.dumps([answer.label for answer in answers]));"
        "print(*({'torch', 'sklearn', 'scipy', 'transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(linear_run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    labels, heavy = done.stdout.split("\n")[:2]
    assert json.loads(labels) == ["refund", "delivery"]
    assert heavy == ""


def test_versions_are_counted_and_nothing_is_overwritten(shop: Dataset, tmp_path: Path) -> None:
    config = TrainingConfig(method="linear")
    first = train(shop, config, out=tmp_path / "shop")
    second = train(shop, config, out=tmp_path / "shop")
    assert [first.name, second.name] == ["shop@1", "shop@2"]
    assert locate_run(tmp_path / "shop") == second
    assert list(versions(tmp_path / "shop")) == [1, 2]
    with pytest.raises(ConfigurationError, match="leave the version out"):
        train(shop, config, out=tmp_path / "shop@9")


def test_a_training_that_was_begun_is_continued(shop: Dataset, tmp_path: Path) -> None:
    config = TrainingConfig(method="linear")
    finished = train(shop, config, out=tmp_path / "shop")
    manifest = json.loads((finished / MANIFEST).read_text())
    begun = {
        "config": manifest["config"],
        "data": shop.fingerprint(),
        "validation": None,
    }
    shutil.rmtree(finished)
    finished.mkdir()
    (finished / "begun.json").write_text(json.dumps(begun))
    with pytest.raises(ModelNotFoundError, match="no finished run"):
        locate_run(finished)
    assert train(shop, config, out=tmp_path / "shop") == finished
    # Other data begins another run.
    (finished / MANIFEST).unlink()
    (finished / "begun.json").write_text(json.dumps(begun))
    other = shop.take(range(60))
    assert train(other, config, out=tmp_path / "shop").name == "shop@2"


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / MANIFEST).write_text("{"),
        lambda run: (run / MANIFEST).write_text('{"format_version": 99}'),
        lambda run: (run / "model.safetensors").write_bytes(b"\x00" * 20),
        lambda run: (run / "vocabulary.json").write_text('{"terms": ["a"], "num_words": 1}'),
    ],
)
def test_damage_is_named(linear_run: Path, tmp_path: Path, damage: object) -> None:
    run = tmp_path / "shop@1"
    shutil.copytree(linear_run, run)
    damage(run)  # type: ignore[operator]
    with pytest.raises(ModelFormatError, match="shop@1"):
        TrainedModel.load(run)


def test_a_label_with_one_row_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(["a", "b", "c", "d", "e"], ["x", "x", "y", "y", "z"])
    with pytest.raises(DataError, match="'z'"):
        train(dataset, TrainingConfig(method="linear"), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_numbers_and_several_labels(several: Dataset, numbers: Dataset, tmp_path: Path) -> None:
    config = TrainingConfig(method="linear")
    run = train(numbers, config, out=tmp_path / "n")
    values = [entry.value for entry in TrainedModel.load(run).predict(numbers.texts)]
    assert np.corrcoef(values, numbers.targets)[0, 1] > 0.9  # type: ignore[arg-type]
    run = train(several, config, out=tmp_path / "m")
    metrics = json.loads((run / "metrics.json").read_text())["held_out"]
    assert {"micro_precision", "micro_recall", "calibration_error"} <= set(metrics)
    predictions = TrainedModel.load(run).predict(several.texts)
    chosen = np.asarray(
        [[label in entry.labels for label in several.labels] for entry in predictions]
    )
    assert (chosen == several.targets).all(axis=1).mean() > 0.9


def test_what_cannot_be_trained_leaves_nothing(shop: Dataset, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("refund 1 2\nmoney 3 4\n")
    config = TrainingConfig(method="bag", vectors=str(vectors), width=3)
    with pytest.raises(DataError, match="2 numbers, not 3"):
        train(shop, config, out=tmp_path / "runs" / "shop")
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_encoder_is_found_from_every_folder(
    shop: Dataset, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(encoder).parent)
    config = TrainingConfig(method="head", encoder=Path(encoder).name)
    run = train(shop, config, out=tmp_path / "shop")
    assert read_manifest(run).config.encoder == str(Path(encoder).resolve())
    monkeypatch.chdir(tmp_path)
    assert TrainedModel.load(run).scores(shop.texts[:1]).shape == (1, 3)
