from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from lepton.data import TableReader, read_table, write_table
from lepton.errors import DataError

Write = Callable[..., Path]
CHINESE = "text,label\n我的包裹到哪里了？,物流\n怎么申请退款,退款\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_encoding_is_found_out(write: Write, encoding: str) -> None:
    table = read_table(write("questions.csv", CHINESE, encoding))
    assert table.texts == ["我的包裹到哪里了？", "怎么申请退款"]
    assert table.labels == ["物流", "退款"]
    assert len(table.problems) == 0


def test_windows_1252_where_it_is_no_chinese(write: Write) -> None:
    content = "text,label\nUn café crème, s'il vous plaît,a\n".replace(", s'", " s'")
    table = read_table(write("cafe.csv", content, "cp1252"))
    assert table.texts == ["Un café crème s'il vous plaît"]


def test_a_line_in_another_encoding_is_mended_and_listed(write: Write) -> None:
    raw = CHINESE.encode() + "订单号在哪,订单\n".encode("gb18030")
    table = read_table(write("mixed.csv", raw))
    assert table.texts[-1] == "订单号在哪"
    (problem,) = table.problems
    assert (problem.line, problem.reason, problem.kept) == (4, "encoding", True)
    assert "gb18030" in problem.detail


def test_undecodable_bytes_are_listed(write: Write) -> None:
    table = read_table(write("broken.csv", "text,label\n好,a\n".encode() + b"b\xff\xfed,b\n"))
    assert table.texts == ["好", "b\ufffd\ufffdd"]
    assert [problem.line for problem in table.problems] == [3]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiter_is_sniffed(write: Write, delimiter: str) -> None:
    rows = [("text", "label"), ("Hello there", "greet"), ("Bye; or not", "leave")]
    content = "".join(
        delimiter.join(f'"{value}"' if delimiter in value else value for value in row) + "\n"
        for row in rows
    )
    reader = TableReader(write("table.csv", content))
    assert reader.delimiter == delimiter
    assert [row.text for row in reader] == ["Hello there", "Bye; or not"]


def test_commas_in_prose_do_not_make_columns(write: Write) -> None:
    table = read_table(write("one.csv", "text\nno comma\nalso none\n"))
    assert table.columns == ("text",)


def test_quotes_hold_delimiters_and_line_ends(write: Write) -> None:
    table = read_table(write("q.csv", 'text,label\n"a, b\nand ""c""",x\nlast,y\n'))
    assert table.texts == ['a, b\nand "c"', "last"]
    assert [row.line for row in table.rows] == [2, 4]


def test_a_quote_that_never_closes_costs_one_line(write: Write) -> None:
    table = read_table(write("q.csv", 'text,label\ngood,x\n"open,x\nnext,y\nlast,z\n'))
    assert table.texts == ["good", "next", "last"]
    (problem,) = table.problems
    assert (problem.line, problem.reason, problem.kept) == (3, "quoting", False)


def test_a_quote_that_closes_too_early_is_mended(write: Write) -> None:
    table = read_table(write("q.csv", 'text,label\n"good" one,x\nlast,z\n'))
    assert table.texts == ["good one", "last"]
    assert [problem.kept for problem in table.problems] == [True]


def test_wrong_numbers_of_cells_are_listed(write: Write) -> None:
    content = "text,label,note\nfine,a,1\ntoo,many,cells,here\nshort,b\ntrailing,c,2,,\n"
    table = read_table(write("w.csv", content, "utf-8"), delimiter=",")
    assert table.texts == ["fine", "short", "trailing"]
    assert [(p.line, p.kept) for p in table.problems] == [(3, False), (4, True), (5, True)]
    assert "4 cells where the header has 3" in table.problems.first[0].detail


@pytest.mark.parametrize("cell", ["", "  ", "nan", "NaN", "NULL", "#N/A"])
def test_missing_cells(write: Write, cell: str) -> None:
    table = read_table(write("m.csv", f"text,label\nhello,{cell}\n{cell or ' '},a\n"))
    assert [(row.text, row.label) for row in table.rows] == [("hello", None), (None, "a")]
    labelled, left_out = table.labelled()
    assert (len(labelled), left_out) == (0, 2)


def test_json_lines(write: Write) -> None:
    lines = [
        json.dumps({"text": "hello", "label": 3}),
        "{not json",
        "[1, 2]",
        "",
        json.dumps({"text": "bye", "label": float("nan")}),
        json.dumps({"text": "late", "label": 1.0, "note": [1]}),
    ]
    table = read_table(write("t.jsonl", "\n".join(lines)))
    assert [(row.line, row.text, row.label) for row in table.rows] == [
        (1, "hello", "3"),
        (5, "bye", None),
        (6, "late", "1"),
    ]
    assert [(p.line, p.reason) for p in table.problems] == [(2, "json"), (3, "json")]


def test_a_json_array_says_what_to_do(write: Write) -> None:
    with pytest.raises(DataError, match="one object a line"):
        read_table(write("t.json", '[{"text": "a"}]'))


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"text": ["你好", None], "label": [1.0, float("nan")]}), path)
    table = read_table(path)
    assert [(row.text, row.label) for row in table.rows] == [("你好", "1"), (None, None)]


def test_old_line_ends(write: Write) -> None:
    table = read_table(write("mac.csv", 'text,label\rone,a\r"two\rlines",b\r\nlast,c'))
    assert table.texts == ["one", "two\rlines", "last"]


def test_a_workbook_that_is_none(write: Write) -> None:
    pytest.importorskip("openpyxl")
    with pytest.raises(DataError, match="not an Excel workbook"):
        read_table(write("t.xlsx", "x"))


def test_excel(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [("内容", "标签"), ("你好", "问候"), (None, None), ("再见", None)]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    table = read_table(tmp_path / "t.xlsx")
    assert [(row.line, row.text, row.label) for row in table.rows] == [
        (2, "你好", "问候"),
        (4, "再见", None),
    ]
    with pytest.raises(DataError, match="no sheet 'x'; there are: Sheet"):
        read_table(tmp_path / "t.xlsx", sheet="x")


def test_a_folder_for_each_label(write: Write, tmp_path: Path) -> None:
    write("news/sport/1.txt", "A match.")
    write("news/politics/1.txt", "选举", "gb18030")
    write("news/politics/.hidden", "no")
    table = read_table(tmp_path / "news")
    assert [(row.text, row.label) for row in table.rows] == [
        ("选举", "politics"),
        ("A match.", "sport"),
    ]
    assert table.column("file") == ["politics/1.txt", "sport/1.txt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "", "the file is empty"),
        ("blank.csv", "\n\n", "no row to read"),
        ("header.csv", "text,label\n", "no row below the header"),
        ("names.csv", "a,b\n1,2\n", "which column holds the text"),
        ("t.xls", "x", "unknown format"),
        ("none.jsonl", "\n", "no JSON object"),
    ],
)
def test_what_cannot_be_read_says_why(write: Write, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_table(write(name, content))
    assert name in str(caught.value)


def test_a_missing_column_names_those_that_there_are(write: Write) -> None:
    path = write("t.csv", CHINESE)
    with pytest.raises(DataError, match=r"column 'intent'.* the file has: text, label"):
        read_table(path, label="intent")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_table(tmp_path / "none.csv")


def test_several_text_columns_are_joined_each_on_a_line(write: Write) -> None:
    path = write("t.csv", 'title,content,label\nA,B,x\n,B,x\n"A\nA","B\nB",x\nA,,x\n,,x\n')
    table = read_table(path, text=("title", "content"))
    assert table.texts == ["A\nB", "\nB", "A A\nB\nB", "A\n", ""]


def test_progress_ends_at_the_size_of_the_file(write: Write) -> None:
    path = write("t.csv", "text,label\n" + "some text,a\n" * 5000)
    seen: list[tuple[int, int | None]] = []
    read_table(path, progress=lambda done, total: seen.append((done, total)))
    size = os.path.getsize(path)  # noqa: PTH202
    assert len(seen) == 3
    assert seen[-1] == (size, size)


_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00\ufeff"), max_size=20)


@settings(max_examples=40)
@given(st.lists(st.tuples(_CELLS, _CELLS), min_size=1, max_size=20))
def test_csv_as_python_writes_it_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    reader = TableReader(path, delimiter=",", encoding="utf-8", missing=frozenset())
    read = [row.values for row in reader]
    assert read == rows
    assert len(reader.problems) == 0


@settings(max_examples=40)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(b"text,label\nfirst,a\n" + raw)
    table = read_table(path)
    assert table.rows[0].text == "first"


def test_damage_further_down_a_parquet_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_table(path, ("text", "label"), [(f"question {n} {n**7}", "a") for n in range(5000)])
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3 : len(raw) // 3 + 64] = bytes(64)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"table\.parquet: damaged after row"):
        list(TableReader(path))


def test_damage_further_down_a_workbook_names_it(tmp_path: Path) -> None:
    path, sheet = tmp_path / "table.xlsx", "xl/worksheets/sheet1.xml"
    book = Workbook()
    for number in range(5000):
        book.active.append((f"question {number}", "a") if number else ("text", "label"))
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[sheet] = members[sheet][:-1000]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match=r"table\.xlsx: damaged after row 4,\d{3}"):
        list(TableReader(path))


def test_halves_of_surrogate_pairs_are_mended_and_listed(write: Write) -> None:
    lines = '{"text": "a \\ud83d\\ude00", "note": "x"}\n{"text": "b", "note": "\\ud800y"}\n'
    table = read_table(write("t.jsonl", lines))
    assert [row.values for row in table.rows] == [("a \U0001f600", "x"), ("b", "\ufffdy")]
    (problem,) = table.problems
    assert (problem.line, problem.reason, problem.kept) == (2, "encoding", True)
