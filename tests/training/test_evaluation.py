from __future__ import annotations

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lepton.errors import ConfigurationError, DataError
from lepton.training import TrainedModel, TrainingConfig, evaluate, make_dataset, train
from lepton.training.dataset import Dataset
from lepton.training.metrics import measures
from lepton.training.report import html_report
from lepton.training.slices import slices, with_typos


def test_everything_is_measured(linear_run: Path, shop_test: Dataset) -> None:
    evaluation = evaluate(linear_run, shop_test)
    values = json.loads(json.dumps(evaluation.values))
    assert values["metrics"]["accuracy"]["value"] > 0.9
    assert sum(map(sum, values["confusion"])) == len(shop_test)
    assert set(values["by_label"]) == set(shop_test.labels)
    assert values["curves"]["refund"]["roc_auc"] > 0.9
    assert values["coverage"][0]["coverage"] == 1.0
    assert {"Chinese", "other languages", "all, with typos added"} <= set(values["slices"])
    f1 = values["by_label"]["refund"]["f1"]
    assert f1["low"] <= f1["value"] <= f1["high"]
    assert values["compared"] == []
    assert not values["seen_in_training"]


def test_the_rows_of_the_training_are_recognised(linear_run: Path, shop: Dataset) -> None:
    assert evaluate(linear_run, shop).values["seen_in_training"]


def test_a_gate_tells_what_is_missed(linear_run: Path, shop_test: Dataset) -> None:
    evaluation = evaluate(linear_run, shop_test)
    assert evaluation.failures({"accuracy": 0.5, "calibration_error": 1.0}) == []
    assert evaluation.failures({"macro_f1": 1.01})[0].startswith("macro_f1")
    with pytest.raises(ConfigurationError, match="choose among"):
        evaluation.failures({"speed": 1})


def test_other_labels_are_refused(linear_run: Path) -> None:
    with pytest.raises(DataError, match="shop@1"):
        evaluate(linear_run, make_dataset(["a", "b"], ["x", "y"]))


def test_the_report_is_one_page_that_loads_nothing(linear_run: Path, shop_test: Dataset) -> None:
    labels = tuple(f"<b>{label}" for label in shop_test.labels)
    evaluation = evaluate(linear_run, shop_test)
    page = html_report(evaluation)
    assert page.count("<svg") == 4
    assert "Worst mistakes" in page

    class Links(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag in ("script", "link", "img", "iframe"):
                self.found.append(tag)

    links = Links()
    links.feed(page)
    assert links.found == []
    values = {**evaluation.values, "run": labels[0]}
    assert "<b>delivery" not in html_report(type(evaluation)(values))


def test_other_models_stand_beside_it(
    linear_run: Path, shop: Dataset, shop_test: Dataset, tmp_path: Path
) -> None:
    config = TrainingConfig(method="linear")
    few = train(shop.take(range(9)), config, out=tmp_path / "few")
    wrong = train(replace(shop, targets=(shop.targets + 1) % 3), config, out=tmp_path / "wrong")
    run = tmp_path / "shop@1"
    shutil.copytree(linear_run, run)
    shutil.copytree(few, run / "baseline")
    evaluation = evaluate(run, shop_test, against=tmp_path / "wrong")
    baseline, other = evaluation.values["compared"]
    assert (baseline["run"], other["run"]) == ("few@1", "wrong@1")
    right = {
        path: TrainedModel.load(path).scores(shop_test.texts).argmax(axis=1) == shop_test.targets
        for path in (run, few, wrong)
    }
    for entry, path in ((baseline, few), (other, wrong)):
        assert entry["metrics"]["accuracy"]["value"] == right[path].mean()
        assert entry["mcnemar"]["only_first"] == (right[run] & ~right[path]).sum()
        assert entry["mcnemar"]["only_second"] == (right[path] & ~right[run]).sum()
    assert other["mcnemar"]["p_value"] < 1e-6
    page = html_report(evaluation)
    assert "few@1 (linear)" in page
    assert "Only shop@1 is right on" in page


def test_several_labels_are_measured(several: Dataset, tmp_path: Path) -> None:
    run = train(several, TrainingConfig(method="linear"), out=tmp_path / "several")
    evaluation = evaluate(run, several, against=run)
    values = json.loads(json.dumps(evaluation.values))
    assert set(values["metrics"]) == set(measures("multi"))
    assert values["metrics"]["micro_recall"]["value"] > 0.9
    assert set(values["by_label"]) == {"refund", "delivery", "size", "en", "zh"}
    assert sum(entry["count"] for entry in values["calibration"]["bins"]) == 5 * len(several)
    assert "confusion" not in values
    assert html_report(evaluation).count("<svg") == 3


def test_numbers_are_measured(numbers: Dataset, tmp_path: Path) -> None:
    run = train(numbers, TrainingConfig(method="linear"), out=tmp_path / "numbers")
    evaluation = evaluate(run, numbers, against=run)
    values = json.loads(json.dumps(evaluation.values))
    assert set(values["metrics"]) == set(measures("regression"))
    assert values["metrics"]["r2"]["value"] > 0.5
    assert len(values["scatter"]) == len(numbers)
    assert "mcnemar" not in values["compared"][0]
    assert len(values["worst"]) == 25
    assert evaluation.failures({"mse": 0.0})[0].endswith("over 0")
    assert html_report(evaluation).count("<svg") == 1


def test_slices_and_typos() -> None:
    texts = ["退款", "refund please now", "a much longer text about a parcel", "退款 now please"]
    found = slices(texts)
    assert found["Chinese"].tolist() == [True, False, False, False]
    assert found["mixed Chinese and other"].tolist() == [False, False, False, True]
    changed = with_typos(texts * 20, rate=1.0)
    assert all(sorted(a) == sorted(b) for a, b in zip(changed, texts * 20, strict=True))
    assert sum(a != b for a, b in zip(changed, texts * 20, strict=True)) > 60
    assert with_typos(texts, rate=0.0) == texts
