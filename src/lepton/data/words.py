"""Words of Chinese and English, their parts of speech, and the ones that say nothing.

Chinese is segmented by jieba's dictionary (``rjieba``), English tagged by the pattern tagger of
``textblob``: both carry their data with them.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from lepton.data.scripts import HAN, LATIN, has_han
from lepton.extras import import_extra

_HAN_RUN = re.compile(f"[{HAN}]+")
_LATIN = re.compile(rf"[{LATIN}]+(?:['’-][{LATIN}]+)*|\d+(?:[.,]\d+)*")
_LETTERS = re.compile(r"\w")

_ENGLISH_STOP_WORDS = """
a about after again all also am an and any are as at be because been before being but by can could
did do does doing down for from further had has have having he her here hers him his how i if in
into is it its itself just me more most my no nor not now of off on once only or other our ours out
over own same she should so some such than that the their them then there these they this those
through to too under until up very was we were what when where which while who whom why will with
would you your yours i'm i've i'd i'll it's that's don't doesn't didn't can't won't isn't wasn't
haven't hasn't please thanks thank hi hello hey
"""
_CHINESE_STOP_WORDS = """
的 了 是 我 你 他 她 它 我们 你们 他们 在 有 和 与 及 或 也 都 就 才 还 又 很 太 更 最
这 那 这个 那个 这些 那些 这里 那里 什么 怎么 怎样 为什么 哪 哪里 哪个 谁 吗 呢 吧 啊
呀 嘛 哦 呗 么 着 过 得 地 之 把 被 给 对 向 从 到 为 以 于 而 且 但 但是 可是 因为
所以 如果 虽然 然后 没 没有 不 不是 会 能 可以 要 想 请 请问 麻烦 一下 一个 一 个 件 您
您好 你好 亲 谢谢 好 说 让 上 下 里 中 再 去 来 啦 吖 嗯 那么
"""
STOP_WORDS = frozenset(f"{_ENGLISH_STOP_WORDS} {_CHINESE_STOP_WORDS}".split())
"""Chinese and English words that carry grammar or courtesy only, in lower case."""


def segment(text: str, *, stop_words: bool = True) -> list[str]:
    """The words of ``text`` in lower case, without punctuation; Chinese is cut into words.

    Args:
        text: Chinese, English or both.
        stop_words: whether to keep ``STOP_WORDS``.

    Raises:
        ConfigurationError: the text is Chinese and the extra ``data`` is not installed.
    """
    lowered = text.lower()
    if has_han(lowered):
        words = []
        for piece in cut_chinese(lowered):
            if has_han(piece):
                words.append(piece)
            else:
                words.extend(_LATIN.findall(piece) or ([piece] if _LETTERS.search(piece) else []))
    else:
        words = _LATIN.findall(lowered)
    return words if stop_words else [word for word in words if word not in STOP_WORDS]


def tag(text: str) -> list[tuple[str, str]]:
    """Words with their parts of speech.

    Returns:
        Pairs of word and tag: for a text with Chinese the tags of jieba (ICTCLAS), among which
        ``eng`` is a word in Latin letters; for others those of the Penn Treebank.

    Raises:
        ConfigurationError: the extra ``data`` is not installed.
    """
    if has_han(text):
        return [(word, kind) for word, kind in _jieba().tag(text) if word.strip()]
    return [(word, kind) for word, kind in import_extra("textblob.en").tag(text) if word]


def kind_of(part_of_speech: str) -> str:
    """One of "noun", "verb", "adjective", "adverb" and "other" for a tag of either set."""
    # In the Penn set tags are upper case; ICTCLAS writes n…, v…, a…, d….
    penn = {"NN": "noun", "VB": "verb", "JJ": "adjective", "RB": "adverb"}
    ictclas = {"n": "noun", "v": "verb", "a": "adjective", "d": "adverb"}
    return penn.get(part_of_speech[:2]) or ictclas.get(part_of_speech[:1]) or "other"


def content_words(text: str) -> set[tuple[str, str]]:
    """The different words of ``text`` that carry meaning, in lower case, each with its kind.

    Left out are ``STOP_WORDS``, numbers, single letters, and what is neither noun, verb, adjective
    nor adverb, but for words in Latin letters within Chinese, which are taken for nouns.

    Raises:
        ConfigurationError: the extra ``data`` is not installed.
    """
    found = set()
    for word, part_of_speech in tag(text.lower()):
        kind = "noun" if part_of_speech == "eng" else kind_of(part_of_speech)
        long_enough = len(word) > 1 or has_han(word)
        if kind != "other" and long_enough and word.isalpha() and word not in STOP_WORDS:
            found.add((word, kind))
    return found


def cut_chinese(text: str) -> list[str]:
    """``text`` in pieces that joined are the text again: Chinese words, and what is between them.

    Raises:
        ConfigurationError: the extra ``data`` is not installed.
    """
    return list(_jieba().cut(text))


def count_words(text: str) -> int:
    """About how many words: Chinese characters count one each. Needs no library."""
    han = 0 if text.isascii() else sum(map(len, _HAN_RUN.findall(text)))
    return han + len(_LATIN.findall(text))


@cache
def _jieba() -> Any:
    return import_extra("rjieba")
