from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lepton.data import Cleaning, CleaningOptions, Conflicts, Reason, Removal, Row, TableReader
from lepton.errors import DataError

Write = Callable[..., Path]

TABLE = """text,label
How do I return a mug?,return
how do i return a mug,return
,return
Where is my order,
?,return
<p>這個訂單 https://a.example/x</p>,track
Can I pay by card,pay
Can I pay by card,coupon
Can I pay by card!,pay
one text,a
One text.,b
"""


def _clean(
    path: Path, options: CleaningOptions | None = None, held_out: Sequence[str] = ()
) -> tuple[list[Row], dict[int, tuple[Reason, str]], Cleaning]:
    cleaning = Cleaning(TableReader(path), options, held_out=held_out)
    kept, removed = [], {}
    for item in cleaning:
        if isinstance(item, Removal):
            removed[item.row.number] = (item.reason, item.detail)
        else:
            kept.append(item)
    return kept, removed, cleaning


def test_every_row_is_kept_or_removed_for_a_reason(write: Write) -> None:
    kept, removed, cleaning = _clean(write("t.csv", TABLE))
    assert [(row.number, row.text, row.label) for row in kept] == [
        (1, "How do I return a mug?", "return"),
        (6, "这个订单", "track"),
        (7, "Can I pay by card", "pay"),
    ]
    assert removed == {
        2: (Reason.DUPLICATE, "of row 1"),
        3: (Reason.MISSING_TEXT, ""),
        4: (Reason.MISSING_LABEL, ""),
        5: (Reason.TOO_SHORT, "1 characters"),
        8: (Reason.CONFLICT, "of row 7"),
        9: (Reason.DUPLICATE, "of row 7"),
        10: (Reason.CONFLICT, ""),
        11: (Reason.CONFLICT, ""),
    }
    report = cleaning.report
    assert report.read == report.kept + report.removed.total() == 11
    assert report.mended == {"HTML": 1, "web addresses": 1, "traditional Chinese": 1}
    assert report.labels_before["return"] == 4
    assert report.labels_after == {"return": 1, "track": 1, "pay": 1}


def test_conflicts_may_be_dropped_or_kept(write: Write) -> None:
    path = write("t.csv", TABLE)
    _, removed, _ = _clean(path, CleaningOptions(conflicts=Conflicts.DROP))
    assert [removed[number][0] for number in (7, 8, 9)] == [Reason.CONFLICT] * 3
    kept, _, _ = _clean(path, CleaningOptions(conflicts=Conflicts.KEEP))
    assert {row.number for row in kept} == {1, 6, 7, 8, 10, 11}


def test_near_duplicates_of_the_same_label_go(write: Write) -> None:
    texts = [
        "How long does a delivery to the city of Edinburgh usually take?,a",
        "How long does a delivery to the city of Edinburgh usually take now?,a",
        "How long does a delivery to the city of Edinburgh usually take then?,b",
    ]
    path = write("t.csv", "text,label\n" + "\n".join(texts) + "\n")
    kept, removed, _ = _clean(path)
    assert [row.number for row in kept] == [1, 3]
    assert removed == {2: (Reason.NEAR_DUPLICATE, "of row 1")}
    assert len(_clean(path, CleaningOptions(near=0))[0]) == 3


def test_held_out_texts_and_what_is_like_them_go(write: Write) -> None:
    path = write("t.csv", TABLE)
    _, removed, _ = _clean(path, held_out=["HOW do I return a mug"])
    assert removed[1][0] == removed[2][0] == Reason.HELD_OUT


def test_long_outliers_go(write: Write) -> None:
    lines = [f"question number {number} about my order,a" for number in range(50)]
    path = write("t.csv", "text,label\n" + "\n".join(lines) + f"\n{'word ' * 500},a\n")
    _, removed, _ = _clean(path, CleaningOptions(near=0))
    assert [reason for reason, _ in removed.values()] == [Reason.TOO_LONG]
    assert not _clean(path, CleaningOptions(near=0, max_characters=0))[1]


def test_beyond_the_limit_texts_are_not_held(write: Write) -> None:
    kept, removed, cleaning = _clean(write("t.csv", TABLE), CleaningOptions(near_limit=3))
    assert len(kept) == 3
    assert removed[2] == (Reason.DUPLICATE, "of row 1")
    assert "more than 3 rows" in cleaning.report.notes[0]


def test_no_rows(write: Write) -> None:
    with pytest.raises(DataError, match="no row"):
        list(Cleaning(TableReader(write("t.csv", "text,label\n"))))


def test_rows_that_cannot_be_read_are_removals_in_their_place(write: Write) -> None:
    path = write("t.csv", "text,label\na,b,c\nfirst question,x\nd,e,f\ng,h,i\n")
    cleaning = Cleaning(TableReader(path))
    lines = [
        (item.row.line, item.reason) if isinstance(item, Removal) else item.line
        for item in cleaning
    ]
    assert lines == [(2, Reason.UNREADABLE), 3, (4, Reason.UNREADABLE), (5, Reason.UNREADABLE)]
    assert cleaning.report.read == 4
