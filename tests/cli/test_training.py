from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "shop.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "intent"])
        for row in range(40):
            writer.writerow([f"refund money {row}", "refund"])
            writer.writerow([f"快递 包裹 {row}", "delivery"])
        writer.writerow(["no label", "NaN"])
    return path


def train(run: Run, table: Path, *options: str) -> Result:
    out = str(table.parent / "runs" / "shop")
    return run("train", str(table), "--out", out, "--method", "linear", *options)


def test_from_a_table_to_scores(run: Run, table: Path, tmp_path: Path) -> None:
    trained = train(run, table, "--json")
    assert trained.exit_code == 0, trained.output
    assert json.loads(trained.stdout)["held_out"]["macro_f1"]["value"] == 1.0
    assert "1 rows without a text or a label" in trained.stderr
    name = str(tmp_path / "runs" / "shop")
    report = tmp_path / "report"
    measured = run("evaluate", name, str(table), "--out", str(report), "--gate", "macro_f1=0.9")
    assert measured.exit_code == 0, measured.output
    assert (report / "report.html").is_file()
    assert json.loads((report / "evaluation.json").read_text())["rows"] == 80
    missed = run("evaluate", name, str(table), "--gate", "accuracy=1.5")
    assert missed.exit_code == 3
    assert "under 1.5" in missed.stderr
    out = tmp_path / "scored.csv"
    assert run("predict", name, str(table), "--out", str(out)).exit_code == 0
    assert len(out.read_text().splitlines()) == 82
    encoded = tmp_path / "encoded.csv"
    encoded.write_text("question;note\nwhere is my parcel;快递\n", "gb18030")
    given = ["--encoding", "gb18030", "--delimiter", ";"]
    scored = tmp_path / "scored.jsonl"
    assert run("predict", name, str(encoded), "--out", str(scored), *given).exit_code == 0
    assert json.loads(scored.read_text())["note"] == "快递"
    again = run("predict", name, str(table), "--out", str(out))
    assert again.exit_code == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("question,intent\n", "no row below the header"),
        ("question,intent\na,x\nb,x\nc,x\n", "two labels"),
        ("question,intent\na,x\nb,x\nc,y\nd,z\ne,z\n", "single row ('y')"),
        ("question,intent\na,\nb,NaN\n", "no rows with a text and a label"),
        ("a,b\n1,2\n", "which column holds the text"),
    ],
)
def test_bad_tables_get_a_message_and_leave_nothing(
    run: Run, table: Path, content: str, message: str
) -> None:
    table.write_text(content)
    failed = train(run, table)
    assert failed.exit_code == 2
    assert message in failed.stderr
    assert not (table.parent / "runs").exists()


def test_a_missing_column_is_named_with_those_there_are(run: Run, table: Path) -> None:
    failed = train(run, table, "--label", "label")
    assert failed.exit_code == 2
    assert "question, intent" in failed.stderr


def test_a_full_disk_is_a_message(run: Run, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lepton.training.linear.write_tensors", full)
    failed = train(run, table)
    assert failed.exit_code == 2
    assert "No space left on device" in failed.stderr


def test_an_interruption_says_how_to_go_on(
    run: Run, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lepton.training.fit_linear.fit_weights", interrupt)
    failed = train(run, table)
    assert failed.exit_code == 130
    assert "the same command continues" in failed.stderr
    monkeypatch.undo()
    assert train(run, table).exit_code == 0
    assert [path.name for path in (table.parent / "runs").iterdir()] == ["shop@1"]
