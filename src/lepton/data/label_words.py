"""The words that tell a label from the others, by part of speech."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from lepton.data.words import content_words

KINDS = ("noun", "verb", "adjective", "adverb")

_WORDS_OF_A_KIND = 6


def label_words(rows: Iterable[tuple[str, str]]) -> dict[str, dict[str, tuple[str, ...]]]:
    """For each label its most telling content words by kind, the best first.

    Words are ranked by the smoothed log-odds of standing in a text of the label rather than of
    another, times the square root of their frequency. A word that stands in one text of a label
    only says nothing of it. A word's kind is the one that it has in most texts.

    Args:
        rows: label and text of each.

    Returns:
        For each label and each of ``KINDS`` up to six words.

    Raises:
        ConfigurationError: the extra ``data`` is not installed.
    """
    counts: dict[str, Counter[str]] = {}
    kinds: dict[str, Counter[str]] = {}
    for label, text in rows:
        found = content_words(text)
        counts.setdefault(label, Counter()).update({word for word, _ in found})
        for word, kind in found:
            kinds.setdefault(word, Counter())[kind] += 1
    kind_of_word = {word: found.most_common(1)[0][0] for word, found in kinds.items()}
    everywhere = sum(counts.values(), Counter())
    best = {}
    for label, own in counts.items():
        scores = _scores(own, everywhere)
        ranked = sorted(scores, key=lambda word: (-scores[word], word))
        best[label] = {
            kind: tuple(word for word in ranked if kind_of_word[word] == kind)[:_WORDS_OF_A_KIND]
            for kind in KINDS
        }
    return best


def _scores(own: Counter[str], everywhere: Counter[str]) -> dict[str, float]:
    """The score of each word that is at least twice as frequent here as elsewhere."""
    inside, total = own.total(), everywhere.total()
    scores = {}
    for word, count in own.items():
        rate = (count + 0.1) / (inside + 1)
        other = (everywhere[word] - count + 0.5) / (total - inside + 1)
        if count > 1 and rate > 2 * other:
            scores[word] = math.log(rate / other) * math.sqrt(count)
    return scores
