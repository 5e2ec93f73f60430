"""One way of writing for texts that mean the same: Unicode, HTML, links, Chinese script.

Each function returns its argument unchanged (the same object) where there is nothing to do.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from lepton.data.scripts import has_han
from lepton.extras import import_extra

_BREAKS = frozenset({"br", "p", "div", "li", "tr", "td", "h1", "h2", "h3", "h4", "ul", "ol"})
_UNSEEN = frozenset({"script", "style", "template", "head"})
_MARKUP = re.compile(
    r"</?[a-zA-Z][^<>]{0,2000}>|<!--|&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[a-zA-Z]{2,31});"
)
_URL = re.compile(
    r"(?:https?://|www\.)[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,2000}", re.IGNORECASE
)
_SPACE = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n[ \n]*")
# NFKC turns these into ASCII; in Chinese text they are the proper signs, and they are kept.
_CHINESE_SIGNS = frozenset("，。？！：；（）、…—～“”‘’《》【】")
_WITHOUT_SIGNS = dict.fromkeys(map(ord, _CHINESE_SIGNS))
# Changed in phrases alone (沈默, 沈船); other phrases hold a character that changes by itself.
_CHANGED_IN_PHRASES = "沈"


def normalize_unicode(text: str) -> str:
    """NFKC (Unicode Annex 15) except for Chinese punctuation; no invisible or control characters.

    White space becomes single spaces, and several line ends become one.
    """
    # What is printable holds no control or format characters and no space but the plain one.
    if text.isprintable() and "  " not in text and _is_composed(text):
        return text.strip()
    composed = "".join(
        character if character in _CHINESE_SIGNS else unicodedata.normalize("NFKC", character)
        for character in unicodedata.normalize("NFC", text)
    )
    visible = "".join(
        character
        for character in composed.replace("\r\n", "\n").replace("\r", "\n")
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs")
    )
    return _LINES.sub("\n", _SPACE.sub(" ", visible)).strip()


def _is_composed(text: str) -> bool:
    """Whether no character changes under NFKC, Chinese punctuation aside."""
    return text.isascii() or (
        unicodedata.is_normalized("NFC", text)
        and unicodedata.is_normalized("NFKC", text.translate(_WITHOUT_SIGNS))
    )


def strip_html(text: str) -> str:
    """The text of HTML, entities decoded; text without markup stays as it is."""
    if not _MARKUP.search(text):
        return text
    parser = _TextOfHtml()
    parser.feed(text)
    parser.close()
    return _LINES.sub("\n", _SPACE.sub(" ", "".join(parser.parts))).strip()


def strip_urls(text: str, replacement: str = "") -> str:
    """``text`` with web addresses replaced."""
    if "://" not in text and "www." not in text.lower():
        return text
    return _SPACE.sub(" ", _URL.sub(replacement, text)).strip()


def simplify_chinese(text: str) -> str:
    """Traditional Chinese characters as simplified ones (OpenCC's phrase tables).

    Raises:
        ConfigurationError: the extra ``data`` is not installed.
    """
    if not has_han(text) or _traditional().isdisjoint(text):
        return text
    return str(_converter().convert(text))


def comparison_key(text: str) -> str:
    """What two texts share that differ only in case, width, punctuation and spaces.

    A text of nothing but signs is its own key.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, folded)) or folded.strip()


class _TextOfHtml(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self._unseen += tag in _UNSEEN
        if tag in _BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in _UNSEEN))
        if tag in _BREAKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(html.unescape(data))


@cache
def _converter() -> Any:
    return import_extra("opencc").OpenCC("t2s")


@cache
def _traditional() -> frozenset[str]:
    """Characters without one of which OpenCC leaves a text as it is."""
    tables = Path(import_extra("opencc").__file__).with_name("dictionary")
    lines = (tables / "TSCharacters.txt").read_text("utf-8").splitlines()
    return frozenset(line[0] for line in lines if line).union(_CHANGED_IN_PHRASES)
