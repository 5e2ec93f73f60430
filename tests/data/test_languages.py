from __future__ import annotations

import pytest

from lepton.data import language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我的快递到哪了", "chinese"),
        ("Where is my parcel?", "latin"),
        ("我的package到哪了 tracking查不到", "mixed"),
        ("我想退掉上周买的那件 M 码外套", "chinese"),
        ("荷物はどこですか", "japanese"),
        ("배송이 언제 오나요", "korean"),
        ("Где моя посылка", "cyrillic"),
        ("???", "none"),
        ("12345", "none"),
        ("？！", "none"),
    ],
)
def test_language(text: str, expected: str) -> None:
    assert language(text) == expected
