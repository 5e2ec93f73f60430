from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lepton.errors import ConfigurationError, DataError
from lepton.training import evaluate, make_dataset
from lepton.training.dataset import Dataset
from lepton.training.report import html_report
from lepton.training.slices import slices, with_typos


def test_everything_is_measured(linear_run: Path, shop_test: Dataset) -> None:
    evaluation = evaluate(linear_run, shop_test, against=linear_run)
    values = json.loads(json.dumps(evaluation.values))
    assert values["metrics"]["accuracy"]["value"] > 0.9
    assert sum(map(sum, values["confusion"])) == len(shop_test)
    assert set(values["by_label"]) == set(shop_test.labels)
    assert values["curves"]["refund"]["roc_auc"] > 0.9
    assert values["coverage"][0]["coverage"] == 1.0
    assert {"Chinese", "other languages", "all, with typos added"} <= set(values["slices"])
    assert values["compared"][0]["mcnemar"]["p_value"] == 1.0
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


def test_slices_and_typos() -> None:
    texts = ["退款", "refund please now", "a much longer text about a parcel", "退款 now please"]
    found = slices(texts)
    assert found["Chinese"].tolist() == [True, False, False, False]
    assert found["mixed Chinese and other"].tolist() == [False, False, False, True]
    changed = with_typos(texts * 20, rate=1.0)
    assert all(sorted(a) == sorted(b) for a, b in zip(changed, texts * 20, strict=True))
    assert sum(a != b for a, b in zip(changed, texts * 20, strict=True)) > 60
    assert with_typos(texts, rate=0.0) == texts
