"""Texts that are the same or nearly so, and rows of a test set that leak from training.

Near-duplicates are found with MinHash signatures in bands (Broder 1997; Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", chapter 3); every candidate pair is then compared exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton.data.normalization import comparison_key
from lepton.data.scripts import has_han
from lepton.extras import import_extra

NEAR = 0.8
"""Jaccard similarity of shingles from which texts count as near-duplicates."""

_ROWS_PER_BAND = 5
_BANDS = 25
_PERMUTATIONS = 128
_MAX_SHINGLES = 4000


@dataclass(frozen=True, slots=True)
class SimilarPair:
    """Two rows, by index from 0, that are alike."""

    first: int
    second: int
    similarity: float
    """Jaccard similarity of their shingles; 1.0 where only case, width and signs differ."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A row of a test set that stands in the training set too."""

    train: int
    test: int
    similarity: float
    same_label: bool


def shingles(text: str) -> frozenset[str]:
    """Pieces of 3 letters (2 with Chinese) of the text without case, width, signs and spaces."""
    key = comparison_key(text)
    width = 2 if has_han(key) else 3
    if len(key) <= width:
        return frozenset({key})
    pieces = {key[start : start + width] for start in range(len(key) - width + 1)}
    if len(pieces) > _MAX_SHINGLES:
        # A sample by hash: the same pieces are chosen in every text that holds them.
        pieces = set(sorted(pieces, key=text_hash)[:_MAX_SHINGLES])
    return frozenset(pieces)


def text_hash(text: str) -> int:
    """64 bits of a text's BLAKE2b, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())


def similar_pairs(texts: Sequence[str], *, threshold: float = NEAR) -> list[SimilarPair]:
    """Pairs of near-duplicates, with the earlier row first; empty texts are like nothing.

    Not every pair of a group of many alike is listed, but each member is with another one.

    Raises:
        ConfigurationError: the extra ``data`` is not installed.
    """
    rows = [index for index, text in enumerate(texts) if text.strip()]
    sets = [shingles(texts[index]) for index in rows]
    found = (
        SimilarPair(rows[first], rows[second], _jaccard(sets[first], sets[second]))
        for first, second in _candidates(sets).tolist()
    )
    return [pair for pair in found if pair.similarity >= threshold]


def duplicate_groups(texts: Sequence[str], *, threshold: float = NEAR) -> NDArray[np.int64]:
    """A number for every row, shared by near-duplicates and by what links them: for ``split``."""
    parent = np.arange(len(texts))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    for pair in similar_pairs(texts, threshold=threshold):
        first, second = root(pair.first), root(pair.second)
        parent[max(first, second)] = min(first, second)
    return np.array([root(index) for index in range(len(texts))], np.int64)


def find_leaks(
    train_texts: Sequence[str],
    train_labels: Sequence[str | None],
    test_texts: Sequence[str],
    test_labels: Sequence[str | None],
    *,
    threshold: float = NEAR,
) -> list[Leak]:
    """Rows of the test set with a near-duplicate in the training set, the most alike for each."""
    count = len(train_texts)
    best: dict[int, Leak] = {}
    for pair in similar_pairs([*train_texts, *test_texts], threshold=threshold):
        if pair.first >= count or pair.second < count:
            continue
        test = pair.second - count
        same = train_labels[pair.first] == test_labels[test]
        if test not in best or pair.similarity > best[test].similarity:
            best[test] = Leak(pair.first, test, pair.similarity, same)
    return [best[test] for test in sorted(best)]


def _candidates(sets: Sequence[frozenset[str]]) -> NDArray[np.int64]:
    """Pairs [n, 2] of rows that share a band, each row with the two before it in its bucket."""
    if len(sets) < 2:
        return np.empty((0, 2), np.int64)
    rensa = import_extra("rensa")
    matrix = rensa.RMinHash.digest_matrix_from_token_sets(
        [list(pieces) for pieces in sets], _PERMUTATIONS, 1
    )
    signatures = np.asarray(matrix.to_rows(), np.uint32)
    found = []
    for band in range(_BANDS):
        columns = signatures[:, band * _ROWS_PER_BAND : (band + 1) * _ROWS_PER_BAND]
        keys = np.ascontiguousarray(columns).view(f"V{4 * _ROWS_PER_BAND}").ravel()
        buckets = np.unique(keys, return_inverse=True)[1]
        order = np.argsort(buckets, kind="stable")
        for step in (1, 2):
            same = buckets[order[step:]] == buckets[order[:-step]]
            found.append(np.stack([order[:-step][same], order[step:][same]], axis=1))
        starts = np.flatnonzero(np.r_[True, np.diff(buckets[order]) != 0])
        leaders = np.repeat(order[starts], np.diff(np.r_[starts, len(order)]))
        later = leaders != order
        found.append(np.stack([leaders[later], order[later]], axis=1))
    pairs: NDArray[np.int64] = np.unique(np.concatenate(found), axis=0)
    return pairs


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)
