from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lepton.data import TableReader, profile
from lepton.data.report import to_html, to_json
from lepton.errors import DataError

Write = Callable[..., Path]

TABLE = """text,label,note
How do I return a mug?,return,x
how do i return a mug,return,
,return,
Where is my order,,
我的電話是13800001234，怎么退款,refund,
<b>How do I return a mug</b>,Return,
Can I pay by card,pay,
Can I pay by card,coupon,
"""


def test_what_is_counted(write: Write) -> None:
    found = profile(TableReader(write("t.csv", TABLE)))
    assert (found.rows, found.missing_text, found.missing_label) == (8, 1, 1)
    assert found.missing_by_column == {"text": 1, "label": 1, "note": 7}
    assert found.duplicate_rows == 2
    assert found.conflicting_texts == 1
    assert found.personal_data == {"phone": 1}
    assert found.markup == {"HTML": 1, "traditional Chinese": 1}
    assert found.languages == {"latin": 6, "chinese": 1}
    assert (found.labels[0].name, found.labels[0].rows) == ("return", 3)
    assert found.label_variants == [["return", "Return"]]
    assert found.characters is not None
    assert sum(count for _, _, count in found.characters.histogram) == 7
    assert found.characters.quantiles["100"] == 28


def test_warnings_name_what_matters(write: Write) -> None:
    warnings = " ".join(profile(TableReader(write("t.csv", TABLE))).warnings)
    for part in ("single row cannot be tested", "several labels", "repeat", "personal data"):
        assert part in warnings


def test_one_label_and_none(write: Write) -> None:
    one = profile(TableReader(write("one.csv", "text,label\na b,x\nc d,x\n")))
    assert "only one label, 'x'" in one.warnings[0]
    none = profile(TableReader(write("none.csv", "text,label\na b,nan\nc d,\n")))
    assert "holds no label at all" in none.warnings[0]
    with pytest.raises(DataError, match="no row"):
        profile(TableReader(write("empty.csv", "text,label\n")))


def test_the_sample_is_bounded_and_the_counts_are_not(write: Write) -> None:
    lines = "".join(f"question number {number},a\n" for number in range(500))
    found = profile(TableReader(write("t.csv", f"text,label\n{lines}")), sample_rows=100)
    assert (found.rows, found.sampled_rows) == (500, 100)


@pytest.mark.parametrize("chinese", [False, True])
def test_the_page_stands_alone_and_hides_what_is_personal(write: Write, chinese: bool) -> None:
    evil = 'text,label\n<script>alert(1)</script> "x",<i>\n打电话13800001234,a\n'
    found = profile(TableReader(write("t.csv", evil)))
    page = to_html(found, chinese=chinese)
    assert "13800001234" not in page
    assert "<script>" not in page
    assert "&lt;i&gt;" in page
    assert "src=" not in page
    assert "http" not in page
    assert ("数据概况" in page) is chinese


def test_json_holds_the_same(write: Write) -> None:
    found = profile(TableReader(write("t.csv", TABLE)))
    fields = json.loads(to_json(found))
    assert fields["rows"] == 8
    assert fields["labels"][0]["name"] == "return"


def test_words_of_a_label_by_part_of_speech(write: Write) -> None:
    table = write(
        "t.csv",
        "text,label\n"
        "Where is my parcel?,track\nThe parcel has not arrived,track\n"
        "My lamp is broken,damage\nThe cup is broken,damage\n"
        "订单在哪里,track\n请问订单,track\n杯子碎了,damage\n杯子很脏,damage\n",
    )
    words = {label.name: label.words for label in profile(TableReader(table)).labels}
    assert set(words["track"]["noun"]) == {"parcel", "订单"}
    assert words["damage"]["noun"] == ("杯子",)
    assert words["damage"]["verb"] == ("broken",)
    assert not {"is", "my", "the", "请问"} & {
        word for kinds in words.values() for found in kinds.values() for word in found
    }
