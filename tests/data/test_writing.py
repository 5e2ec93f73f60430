from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lepton.data import TableReader, TableWriter, write_table
from lepton.errors import DataError

ROWS = [('你好, "world"\nline', "a"), (None, "b")]


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"])
def test_what_is_written_is_read_back(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"table{kind}"
    assert write_table(path, ("text", "label"), ROWS) == 2
    reader = TableReader(path)
    assert [row.values for row in reader] == ROWS
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("precious")
    with pytest.raises(DataError, match="is not written over"):
        TableWriter(path, ("text",))
    assert path.read_text() == "precious"
    write_table(path, ("text",), [("new",)], force=True)
    assert path.read_text() == "text\nnew\n"


def test_an_interruption_keeps_what_was_written_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"

    def rows() -> Iterator[tuple[str]]:
        yield ("first",)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(path, ("text",), rows())
    assert not path.exists()
    assert (tmp_path / "table.csv.part").read_text() == "text\nfirst\n"


def test_a_full_disk_says_where_the_rest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "table.csv"
    writer = TableWriter(path, ("text",))
    monkeypatch.setattr(writer, "_sink", type("Full", (), {"write": full, "close": full})())
    with pytest.raises(DataError, match=r"table.csv.part: .*No space left.*kept there"):
        writer.write(("first",))
    assert not path.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    (tmp_path / "table.csv.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left"):
        write_table(tmp_path / "table.csv", ("text",), [("some text",)] * 100_000)


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown format"):
        TableWriter(tmp_path / "table.doc", ("text",))


def test_excel_keeps_what_looks_like_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    rows = [("=1+1", "a"), ("=HYPERLINK(1)", "#REF!"), ("plain", "b")]
    write_table(path, ("text", "label"), rows)
    assert [row.values for row in TableReader(path)] == rows


def test_excel_refuses_what_it_would_cut(tmp_path: Path) -> None:
    longest = "字" * 32_767
    write_table(tmp_path / "fits.xlsx", ("text",), [(longest,)])
    assert next(iter(TableReader(tmp_path / "fits.xlsx"))).text == longest
    with pytest.raises(DataError, match=r"line 3, column 'note': 32,768 characters.*parquet"):
        write_table(tmp_path / "t.xlsx", ("text", "note"), [("a", "b"), ("c", longest + "字")])
    assert not (tmp_path / "t.xlsx").exists()


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_half_of_a_surrogate_pair_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match="surrogate pair"):
        write_table(tmp_path / f"table{kind}", ("text",), [("a\ud800",)])


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    write_table(path, ("reason", "text", "reason"), [("a", "b", "c")])
    assert path.read_text() == '{"reason": "a", "text": "b", "reason (2)": "c"}\n'
