"""How a table is read is an option of training and evaluation too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from openpyxl import Workbook
from typer.testing import Result

Run = Callable[..., Result]


def test_the_sheet_that_is_named_is_trained_on_and_measured(run: Run, tmp_path: Path) -> None:
    path, name = tmp_path / "book.xlsx", str(tmp_path / "runs" / "mood")
    book = Workbook()
    book.active.append(("note", "date"))
    sheet = book.create_sheet("questions")
    sheet.append(("text", "label"))
    for number in range(30):
        sheet.append((f"good pleasant {number}", "a") if number % 2 else (f"bad sad {number}", "b"))
    book.save(path)
    trained = ("train", str(path), "--method", "linear", "--out", name)
    assert run(*trained).exit_code == 2
    assert run(*trained, "--sheet", "questions").exit_code == 0
    done = run("evaluate", name, str(path), "--sheet", "questions", "--json")
    assert done.exit_code == 0, done.output


def test_encoding_and_delimiter_are_taken_as_given(run: Run, tmp_path: Path) -> None:
    path, name = tmp_path / "table.txt", str(tmp_path / "runs" / "mood")
    rows = [f"好 {number}\ta" if number % 2 else f"坏 {number}\tb" for number in range(30)]
    path.write_bytes("\n".join(("文本\t标签", *rows)).encode("utf-16-le"))
    options = ("--encoding", "utf-16-le", "--delimiter", "tab")
    done = run("train", str(path), "--method", "linear", "--out", name, *options)
    assert done.exit_code == 0, done.output
    assert run("evaluate", name, str(path), *options).exit_code == 0


def test_rows_that_cannot_be_read_are_counted_with_the_way_to_see_them(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    rows = [f"good {number},a" if number % 2 else f"bad {number},b" for number in range(30)]
    path.write_text("\n".join(("text,label", *rows, "one,too,many")) + "\n")
    done = run("train", str(path), "--method", "linear", "--out", str(tmp_path / "run"))
    assert done.exit_code == 0, done.output
    assert "1 rows could not be read" in done.output
    assert f"lepton data profile {path} lists them" in done.output
