from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LEPTON = (sys.executable, "-m", "lepton")
QUESTIONS = str(EXAMPLES / "customer_questions.csv")
TEST = str(EXAMPLES / "customer_questions_test.csv")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_from_a_raw_table_to_parts_without_leaks(run: Run, tmp_path: Path) -> None:
    cleaned, parts = tmp_path / "clean.csv", tmp_path / "parts"
    done = run("data", "clean", QUESTIONS, "--out", str(cleaned), "--held-out", TEST)
    assert done.exit_code == 0, done.output
    kept, removed = _rows(cleaned), _rows(tmp_path / "clean.removed.csv")
    assert len(kept) + len(removed) == len(_rows(Path(QUESTIONS)))
    assert all(row["reason"] for row in removed)
    assert {row["id"] for row in kept}.isdisjoint(row["id"] for row in removed)
    summary = json.loads((tmp_path / "clean.cleaning.json").read_text())
    assert summary["kept"] == len(kept)
    assert sum(summary["removed"].values()) == len(removed)

    done = run("data", "split", str(cleaned), "--out", str(parts), "--seed", "3")
    assert done.exit_code == 0, done.output
    sizes = {name: len(_rows(parts / f"{name}.csv")) for name in ("train", "dev", "test")}
    assert sum(sizes.values()) == len(kept)
    assert abs(sizes["test"] / len(kept) - 0.1) < 0.01
    assert run("data", "leaks", str(parts / "train.csv"), str(parts / "test.csv")).exit_code == 0
    assert run("data", "leaks", str(cleaned), TEST).exit_code in (0, 1)

    done = run(
        *("data", "augment", str(parts / "train.csv"), "--dev", str(parts / "dev.csv")),
        *("--test", TEST, "--factor", "0.2", "--out", str(tmp_path / "more.csv")),
    )
    assert done.exit_code == 0, done.output
    assert "macro-F1" in done.output
    assert len(_rows(tmp_path / "more.csv")) > 1.15 * sizes["train"]


def test_a_profile_is_a_page_and_json(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = run("data", "profile", QUESTIONS, "--out", str(page))
    assert done.exit_code == 0, done.output
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["label_count"] == 24
    again = run("data", "profile", QUESTIONS, "--out", str(page))
    assert again.exit_code == 2
    assert "is not written over" in again.output


def test_leaks_fail(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("text,label\nWhere is my parcel today?,x\n")
    done = run("data", "leaks", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"))
    assert done.exit_code == 1
    assert "1 rows of the test part" in done.output


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "the file is empty"),
        ("text,label\n", [], "no row below the header"),
        ("text,label\na,b\n", ["--label", "intent"], "the file has: text, label"),
        ("text,label\na,b\n", ["--encoding", "klingon"], "unknown encoding"),
    ],
)
def test_bad_input_is_one_line(
    run: Run, tmp_path: Path, content: str, options: list[str], message: str
) -> None:
    path = tmp_path / "in.csv"
    path.write_text(content)
    done = run("data", "clean", str(path), "--out", str(tmp_path / "out.csv"), *options)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "out.csv").exists()


def test_rejected_rows_are_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(
        "text,label\n一个问题,a\ntoo,many,cells\n".encode() + "另一个问题,b\n".encode("gb18030")
    )
    done = run("data", "clean", str(path), "--out", str(tmp_path / "out.csv"))
    assert done.exit_code == 0, done.output
    assert "1 rows could not be read, 1 were mended" in done.output
    assert "line 3" in done.output
