from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from typer.testing import Result

from lepton.cli import evaluate

Run = Callable[..., Result]

ROWS = 40


def table(path: Path, rows: Iterable[tuple[str, object]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "intent"])
        writer.writerows(rows)
    return path


@pytest.fixture
def single(run: Run, tmp_path: Path) -> tuple[str, str]:
    """A run and its table."""
    rows = [(f"{row * 7919} refund money", "refund") for row in range(ROWS)]
    rows += [(f"{row * 7919} 快递 包裹", "delivery") for row in range(ROWS)]
    return trained(run, table(tmp_path / "shop.csv", rows))


def trained(run: Run, data: Path, *options: str) -> tuple[str, str]:
    name = str(data.parent / "runs" / data.stem)
    result = run("train", str(data), "--out", name, "--method", "linear", *options)
    assert result.exit_code == 0, result.output
    return name, str(data)


def test_a_report_is_not_written_over(run: Run, single: tuple[str, str], tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.mkdir()
    (report / "evaluation.json").write_text("kept")
    refused = run("evaluate", *single, "--out", str(report))
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert [path.name for path in report.iterdir()] == ["evaluation.json"]
    assert (report / "evaluation.json").read_text() == "kept"
    forced = run("evaluate", *single, "--out", str(report), "--force")
    assert forced.exit_code == 0, forced.output
    assert json.loads((report / "evaluation.json").read_text())["rows"] == 2 * ROWS
    file = tmp_path / "file"
    file.touch()
    failed = run("evaluate", *single, "--out", str(file))
    assert failed.exit_code == 2
    assert "cannot be written" in failed.stderr


def test_an_unknown_gate_is_refused_before_anything_is_measured(
    run: Run, single: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[object] = []
    monkeypatch.setattr(
        evaluate, "evaluate_run", lambda *arguments, **_: measured.append(arguments)
    )
    refused = run("evaluate", *single, "--out", str(tmp_path / "r"), "--gate", "macro_f2=0.9")
    assert refused.exit_code == 2
    assert "macro_f1" in refused.stderr
    assert measured == []
    assert not (tmp_path / "r").exists()


def test_several_labels_from_a_table_to_scores(run: Run, tmp_path: Path) -> None:
    rows = [(f"{row * 7919} refund money", "refund|en") for row in range(ROWS)]
    rows += [(f"{row * 7919} 快递 包裹", "delivery|zh") for row in range(ROWS)]
    run_and_data = trained(run, table(tmp_path / "several.csv", rows), "--objective", "multi")
    report, out = tmp_path / "report", tmp_path / "scored.csv"
    gates = ("--gate", "micro_precision=0.9", "--gate", "calibration_error=0.5")
    measured = run("evaluate", *run_and_data, "--out", str(report), *gates)
    assert measured.exit_code == 0, measured.output
    assert "micro recall" in measured.stdout
    assert "<h2>Labels</h2>" in (report / "report.html").read_text("utf-8")
    assert run("predict", *run_and_data, "--out", str(out)).exit_code == 0
    with out.open(newline="") as stream:
        predicted = {(row["intent"], row["predicted"]) for row in csv.DictReader(stream)}
    same = {("|".join(sorted(a.split("|"))), "|".join(sorted(b.split("|")))) for a, b in predicted}
    assert same == {("en|refund", "en|refund"), ("delivery|zh", "delivery|zh")}


def test_numbers_from_a_table_to_scores(run: Run, tmp_path: Path) -> None:
    rows = [(f"{row * 7919} refund money", 1.5) for row in range(ROWS)]
    rows += [(f"{row * 7919} 快递 包裹", 4.5) for row in range(ROWS)]
    run_and_data = trained(run, table(tmp_path / "numbers.csv", rows))
    report, out = tmp_path / "report", tmp_path / "scored.csv"
    gates = ("--gate", "r2=0.9", "--gate", "mse=0.5")
    measured = run("evaluate", *run_and_data, "--out", str(report), *gates)
    assert measured.exit_code == 0, measured.output
    assert "Predicted and actual" in (report / "report.html").read_text("utf-8")
    assert run("predict", *run_and_data, "--out", str(out)).exit_code == 0
    with out.open(newline="") as stream:
        off = [abs(float(row["intent"]) - float(row["value"])) for row in csv.DictReader(stream)]
    assert len(off) == 2 * ROWS
    assert max(off) < 1
