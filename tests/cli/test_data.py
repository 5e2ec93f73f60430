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
    assert run("data", "leaks", QUESTIONS, TEST, "--near", "0.9").exit_code == 1
    assert run("data", "leaks", str(cleaned), TEST, "--near", "0.9").exit_code == 0

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


def test_every_row_that_cannot_be_read_is_listed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    lines = [f"第 {number} 个问题,a" if number % 2 else "a,b,c" for number in range(300)]
    path.write_bytes(
        ("text,label\n" + "\n".join(lines) + "\n").encode() + "另一个问题,b\n".encode("gb18030")
    )
    done = run("data", "clean", str(path), "--out", str(tmp_path / "out.csv"), "--near", "0")
    assert done.exit_code == 0, done.output
    assert "150 rows could not be read, 1 were mended" in done.output
    assert "line 2: 3 cells" in done.output
    lost = [row for row in _rows(tmp_path / "out.removed.csv") if row["row"] == ""]
    assert [int(row["line"]) for row in lost] == list(range(2, 302, 2))
    assert {row["reason"] for row in lost} == {"could not be read"}
    assert all("3 cells" in row["detail"] for row in lost)
    report = json.loads((tmp_path / "out.cleaning.json").read_text())
    assert report["read"] == 301 == report["kept"] + sum(report["removed"].values())

    page = tmp_path / "report.html"
    done = run("data", "profile", str(path), "--out", str(page))
    assert done.exit_code == 0, done.output
    listed = _rows(tmp_path / "report.problems.csv")
    assert [row["outcome"] for row in listed] == ["rejected"] * 150 + ["mended"]
    assert json.loads(page.with_suffix(".json").read_text())["problems_file"] == (
        "report.problems.csv"
    )
    assert "report.problems.csv" in page.read_text(encoding="utf-8")


def test_a_list_of_an_earlier_profile_does_not_stay(run: Run, tmp_path: Path) -> None:
    path, page = tmp_path / "in.csv", tmp_path / "report.html"
    for content, listed in (("text,label\na b,x,y\nc d,z\n", True), ("text,label\nc d,z\n", False)):
        path.write_text(content)
        done = run("data", "profile", str(path), "--out", str(page), "--force")
        assert done.exit_code == 0, done.output
        assert page.with_suffix(".problems.csv").exists() is listed


def test_held_out_texts_are_read_from_the_same_columns(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    rows = [
        ("parcel", "where is it now"),
        ("refund", "when is it paid"),
        ("coupon", "how to use it"),
    ]
    path.write_text("title,content,label\n" + "".join(f"{a},{b},{a}\n" for a, b in rows))
    test = tmp_path / "test.csv"
    test.write_text("title,content\n" + "".join(f"{a},{b}\n" for a, b in rows[:2]))
    columns = ("--text", "title", "--text", "content")
    out = tmp_path / "out.csv"
    done = run("data", "clean", str(path), "--out", str(out), "--held-out", str(test), *columns)
    assert done.exit_code == 0, done.output
    assert [row["title"] for row in _rows(out)] == ["coupon"]


def test_what_a_table_says_of_itself_is_kept_beside_the_reasons(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [
        {"text": text, "label": "a", "reason": "complaint", "row": "17"}
        for text in ("where is my parcel", "where is my parcel", "how do I pay by card")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("data", "clean", str(path), "--out", str(tmp_path / "out.jsonl"))
    assert done.exit_code == 0, done.output
    (removed,) = map(json.loads, (tmp_path / "out.removed.jsonl").read_text().splitlines())
    assert (removed["row"], removed["reason"]) == ("2", "duplicate")
    assert (removed["row (2)"], removed["reason (2)"]) == ("17", "complaint")


def test_augmenting_twice_keeps_how_each_row_was_made(run: Run, tmp_path: Path) -> None:
    train, dev = tmp_path / "train.csv", tmp_path / "dev.csv"
    subjects = ("parcel", "order", "refund", "coupon", "invoice")
    for path, question in ((train, "where is my {} right now"), (dev, "tell me about the {}")):
        rows = [f"{question.format(name)},{index % 2}" for index, name in enumerate(subjects)]
        path.write_text("text,label\n" + "\n".join(rows) + "\n")
    for source, target in (("train", "once"), ("once", "twice")):
        done = run(
            *("data", "augment", str(tmp_path / f"{source}.csv"), "--dev", str(dev)),
            *("--method", "delete", "--out", str(tmp_path / f"{target}.csv")),
        )
        assert done.exit_code == 0, done.output
    once, twice = _rows(tmp_path / "once.csv"), _rows(tmp_path / "twice.csv")
    assert twice[: len(once)] == once
    assert list(twice[0]) == ["text", "label", "augmentation", "augmentation_group"]
    assert {row["augmentation"] for row in twice[len(once) :]} == {"delete"}
    assert len({row["augmentation_group"] for row in twice}) == len(subjects)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profile", "IN", "--out", "rep.json"], "two things would be written here"),
        (["clean", "IN", "--out", "o.csv", "--removed", "o.csv"], "two things would be written"),
        (["split", "IN", "--out", "parts", "--dev", ".6", "--test", ".6"], "nothing to train on"),
    ],
)
def test_options_that_contradict_each_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("IN").mkdir()
    Path("IN/a").mkdir()
    Path("IN/a/1.txt").write_text("where is my parcel")
    done = run("data", *arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["IN"]
