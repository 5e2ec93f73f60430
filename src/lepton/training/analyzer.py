"""Text to the terms that `linear` counts: words and their pairs, and n-grams of characters.

Han characters and kana, written without spaces, are cut into words by rjieba, and form n-grams
across those words. Every other word contributes n-grams of its own, with a space at both ends, so
that misspelt and inflected words share terms with right ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lepton.data.scripts import HAN, KANA
from lepton.data.words import cut_chinese

_TOKEN = re.compile(rf"([{HAN}{KANA}]+)|[^\W{HAN}{KANA}]+")
_IS_HAN = re.compile(rf"[{HAN}{KANA}]")


@dataclass(frozen=True)
class Terms:
    """What one text consists of, with how often it occurs."""

    words: Counter[str]
    """Words, and longer sequences of them."""
    characters: Counter[str]
    """N-grams of characters, each with a leading ``#`` that no word has."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the terms of one text are made of, each in order and as often as it occurs."""

    words: list[str]
    """In every script."""
    alphabetic: list[str]
    """Those of ``words`` that are written with an alphabet."""
    han: list[str]
    """Runs of Han characters and kana, which ``words`` holds in pieces."""


@dataclass(frozen=True)
class Analyzer:
    """Which terms a text is turned into; equal settings give equal terms on every machine."""

    word_ngrams: int = 2
    """Longest sequence of words; 0 leaves words out."""
    character_ngrams: tuple[int, int] = (3, 5)
    """Shortest and longest n-gram inside a word that is written with an alphabet; (0, 0): none."""
    han_ngrams: tuple[int, int] = (1, 3)
    """The same for runs of Han characters and kana."""

    def terms(self, text: str) -> Terms:
        """The terms of ``text``."""
        parts = self.parts(text)
        characters: Counter[str] = Counter()
        for word in parts.alphabetic:
            characters.update(self.inside(word))
        for run in parts.han:
            characters.update(self.across(run))
        return Terms(Counter(self.sequences(parts.words)), characters)

    def parts(self, text: str) -> Parts:
        """What the terms of ``text`` are made of."""
        found = Parts([], [], [])
        for token, is_han in tokens(text):
            if is_han:
                found.words.extend(cut_chinese(token))
                found.han.append(token)
            else:
                found.words.append(token)
                found.alphabetic.append(token)
        return found

    def sequences(self, words: list[str]) -> list[str]:
        """Words, and longer sequences of them joined by spaces."""
        found = list(words) if self.word_ngrams else []
        for length in range(2, self.word_ngrams + 1):
            shifted = (words[start:] for start in range(length))
            found += map(" ".join, zip(*shifted, strict=False))
        return found

    def inside(self, word: str) -> list[str]:
        """The n-grams of a word that is written with an alphabet."""
        return _ngrams(f" {word} ", *self.character_ngrams)

    def across(self, run: str) -> list[str]:
        """The n-grams of a run of Han characters and kana."""
        return _ngrams(run, *self.han_ngrams)


def normalize(text: str) -> str:
    """Compatibility form in lower case: full-width letters, ligatures and case fall together."""
    return unicodedata.normalize("NFKC", text).lower()


def tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Runs of letters and digits, and whether each is of Han characters and kana."""
    for match in _TOKEN.finditer(normalize(text)):
        yield match.group(), match.group(1) is not None


def words(text: str) -> list[str]:
    """The words of a text in any script, in order."""
    found: list[str] = []
    for token, is_han in tokens(text):
        found.extend(cut_chinese(token) if is_han else [token])
    return found


def han_share(text: str) -> float:
    """The share of Han characters and kana among the characters that are not blank."""
    visible = sum(not character.isspace() for character in text)
    return len(_IS_HAN.findall(text)) / visible if visible else 0.0


def _ngrams(text: str, shortest: int, longest: int) -> list[str]:
    return [
        f"#{text[start : start + length]}"
        for length in range(max(shortest, 1), longest + 1)
        for start in range(len(text) - length + 1)
    ]
