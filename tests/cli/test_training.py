from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from lepton.data.augmentation import GROUP, METHOD
from lepton.training.loading import load_dataset

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


def test_a_file_of_vectors_gives_a_network_its_width(run: Run, table: Path) -> None:
    vectors = table.parent / "glove.txt"
    numbers = " ".join(["0.1"] * 50)
    vectors.write_text(f"refund {numbers}\nmoney {numbers}\n包裹 {numbers}\n")
    out = table.parent / "runs" / "bag"
    options = ("--method", "bag", "--epochs", "1", "--vectors", str(vectors))
    trained = run("train", str(table), "--out", str(out), *options)
    assert trained.exit_code == 0, trained.output
    assert json.loads((out.with_name("bag@1") / "run.json").read_text())["model"]["width"] == 50
    out = out.with_name("other")
    failed = run("train", str(table), "--out", str(out), *options, "--width", "8")
    assert failed.exit_code == 2
    assert "50 numbers, not 8" in " ".join(failed.stderr.split())
    assert [path.name for path in out.parent.iterdir()] == ["bag@1"]


def test_sizes_of_a_network_are_options(run: Run, table: Path) -> None:
    sizes = {"width": 16, "heads": 2, "layers": 1, "feed-forward": 24, "vocabulary-size": 60}
    others = {"dropout": 0.2, "validation-share": 0.3, "max-gradient-norm": 2.0}
    given = [part for name, value in (sizes | others).items() for part in (f"--{name}", str(value))]
    out = table.parent / "runs" / "small"
    options = ("--method", "transformer", "--epochs", "1")
    trained = run("train", str(table), "--out", str(out), *options, *given)
    assert trained.exit_code == 0, trained.output
    written = json.loads((out.with_name("small@1") / "run.json").read_text())
    for name, value in (sizes | others).items():
        assert written["config"][name.replace("-", "_")] == value
    assert written["model"]["feed_forward"] == 24
    refused = run("train", str(table), "--out", str(out), *options, "--width", "50")
    assert refused.exit_code == 2
    assert "heads" in refused.stderr
    assert [path.name for path in out.parent.iterdir()] == ["small@1"]


@pytest.mark.parametrize("method", ["linear", "bag"])
def test_few_texts_are_enough_or_refused(run: Run, table: Path, method: str) -> None:
    out = table.parent / "runs" / "few"
    command = ("train", str(table), "--out", str(out), "--method", method)
    texts = {"refund": ["money", "card", "bank"], "delivery": ["parcel", "late", "courier"]}
    rows = [f"{text},{label}" for label, some in texts.items() for text in some]
    table.write_text("\n".join(["question,intent", *rows]))
    assert run(*command, "--width", "8").exit_code == 0
    table.write_text("\n".join(["question,intent", *["same,refund", "same,delivery"] * 4]))
    refused = run(*command)
    assert refused.exit_code == 2
    assert "validation data" in " ".join(refused.stderr.split())
    assert [path.name for path in out.parent.iterdir()] == ["few@1"]


def test_rewritten_rows_know_what_they_were_made_from(run: Run, table: Path) -> None:
    dev = table.with_name("dev.csv")
    dev.write_text("question,intent\ngive my money back,refund\n包裹 在 哪里,delivery\n")
    first, second = table.with_name("first.csv"), table.with_name("second.csv")
    for source, out in ((table, first), (first, second)):
        done = run("data", "augment", str(source), "--dev", str(dev), "--out", str(out))
        assert done.exit_code == 0, done.output
    with second.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["question", "intent", METHOD, GROUP]
    originals = {row[GROUP]: row for row in rows if not row[METHOD]}
    assert len(originals) == 80
    rewritten = [row for row in rows if row[METHOD]]
    assert len(rewritten) > 100
    assert all(row["intent"] == originals[row[GROUP]]["intent"] for row in rewritten)
    dataset = load_dataset(second).dataset
    assert dataset.origins == tuple(row[GROUP] for row in rows)


def test_the_columns_trained_on_are_found_again(run: Run, tmp_path: Path) -> None:
    subjects = {"refund": ("money back", "card debit"), "parcel": ("late courier", "not here")}
    rows = [
        {"id": str(number), "title": title, "body": f"{label} please {number}", "label": label}
        for number in range(12)
        for label, titles in subjects.items()
        for title in titles
    ]
    mail = tmp_path / "mail.csv"
    with mail.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert train(run, mail, "--text", "title", "--text", "body").exit_code == 0
    trained = str(tmp_path / "runs" / "shop")
    scored = tmp_path / "scored.csv"
    assert run("predict", trained, str(mail), "--out", str(scored)).exit_code == 0
    with scored.open(encoding="utf-8-sig", newline="") as file:
        assert all(row["predicted"] == row["label"] for row in csv.DictReader(file))
    assert run("evaluate", trained, str(mail), "--gate", "accuracy=1").exit_code == 0
    one = run("predict", trained, str(mail), "--out", str(tmp_path / "b.csv"), "--text", "title")
    assert one.exit_code == 2
    assert "reads texts of 2 columns (title, body)" in " ".join(one.output.split())
    assert not (tmp_path / "b.csv").exists()
