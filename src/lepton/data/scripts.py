"""Ranges of Unicode that scripts are written in, for the inside of a regular expression's class."""

from __future__ import annotations

import re

HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = "\u3040-\u30ff"
LATIN = "A-Za-z\u00c0-\u024f"

_HAN = re.compile(f"[{HAN}]")


def has_han(text: str) -> bool:
    """Whether ``text`` holds a Chinese character."""
    return not text.isascii() and _HAN.search(text) is not None
