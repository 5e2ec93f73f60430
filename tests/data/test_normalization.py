from __future__ import annotations

from pathlib import Path

import opencc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.data.normalization import (
    comparison_key,
    normalize_unicode,
    simplify_chinese,
    strip_html,
    strip_urls,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ｉＰｈｏｎｅ　１２", "iPhone 12"),
        ("你好，在吗？", "你好，在吗？"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("a \t b\r\n\r\n\n c", "a b\nc"),
        ("cafe\u0301", "café"),
        ("plain text", "plain text"),
    ],
)
def test_unicode(text: str, expected: str) -> None:
    assert normalize_unicode(text) == expected


@settings(max_examples=60)
@given(st.text(max_size=60))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    once = normalize_unicode(text)
    assert normalize_unicode(once) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>Hello<br>there</p>", "Hello\nthere"),
        ("a &lt; b &amp; c", "a < b & c"),
        ("x<script>alert(1)</script>y", "xy"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("尺码<M", "尺码<M"),
    ],
)
def test_html(text: str, expected: str) -> None:
    assert strip_html(text) == expected


def test_urls() -> None:
    assert strip_urls("看这个https://shop.example.com/p/1?a=b 可以吗") == "看这个 可以吗"
    assert strip_urls("see www.example.com now", "[link]") == "see [link] now"
    text = "no address here"
    assert strip_urls(text) is text


def test_traditional_chinese_by_phrases() -> None:
    assert simplify_chinese("這個訂單什麼時候發貨") == "这个订单什么时候发货"
    assert simplify_chinese("皇后以後的頭髮") == "皇后以后的头发"
    assert simplify_chinese("plain") == "plain"


def test_what_the_key_ignores() -> None:
    assert comparison_key("Hello, World！") == comparison_key("ｈｅｌｌｏ world")
    assert comparison_key("？？") == "??"
    assert comparison_key("退款") != comparison_key("退货")


def test_every_entry_of_the_tables_is_converted() -> None:
    tables = Path(opencc.__file__).with_name("dictionary")
    entries = [
        line.split("\t")[0]
        for name in ("TSCharacters.txt", "TSPhrases.txt")
        for line in (tables / name).read_text("utf-8").splitlines()
    ]
    convert = opencc.OpenCC("t2s").convert
    assert [simplify_chinese(entry) for entry in entries] == [convert(entry) for entry in entries]


@given(st.text(max_size=12))
def test_nothing_left_to_do_is_seen_by_every_character(text: str) -> None:
    # Without its quick way out, which a line end bars.
    assert normalize_unicode(text) == normalize_unicode(f"\n{text}")
