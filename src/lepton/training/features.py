"""Counts of terms as weighted features: TF-IDF over a fixed vocabulary, in numpy alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lepton.training.analyzer import Analyzer

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_REMEMBERED_WORDS = 1 << 16


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix by rows: row i has ``indices`` and ``values`` [starts[i]:starts[i + 1]]."""

    starts: Indices
    indices: Indices
    values: Floats
    num_columns: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def times(self, matrix: Floats) -> Floats:
        """The product with a dense ``matrix`` [columns, outputs]: float32 [rows, outputs]."""
        product = np.zeros((len(self), matrix.shape[1]), np.float32)
        for row in range(len(self)):
            part = slice(self.starts[row], self.starts[row + 1])
            product[row] = self.values[part] @ matrix[self.indices[part]]
        return product


@dataclass
class TfIdf:
    """TF-IDF of words and of characters, each part of a row scaled to length 1.

    A term's weight is (1 + ln count) · idf, idf = 1 + ln((1 + rows) / (1 + rows with the term)).
    ``vocabulary`` lists the terms, words first; ``num_words`` says how many they are.
    """

    analyzer: Analyzer
    vocabulary: Sequence[str]
    num_words: int
    idf: Floats
    _ids: dict[str, int] = field(init=False, repr=False)
    _inside: dict[str, tuple[int, ...]] = field(init=False, repr=False)
    """Terms inside words that were met, the first `_REMEMBERED_WORDS` of them."""

    def __post_init__(self) -> None:
        self._ids = {term: index for index, term in enumerate(self.vocabulary)}
        self._inside = {}

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        analyzer: Analyzer,
        *,
        min_rows: int = 1,
        max_terms: int = 300_000,
    ) -> TfIdf:
        """Learn the vocabulary: terms in at least ``min_rows`` texts, the most frequent first."""
        word_rows: Counter[str] = Counter()
        character_rows: Counter[str] = Counter()
        num_rows = 0
        for text in texts:
            terms = analyzer.terms(text)
            word_rows.update(terms.words.keys())
            character_rows.update(terms.characters.keys())
            num_rows += 1
        # Each part may take half; what one does not need, the other gets.
        kept_words = _most_frequent(word_rows, min_rows, max_terms)
        kept_characters = _most_frequent(character_rows, min_rows, max_terms)
        half = max_terms // 2
        num_words = min(len(kept_words), max(half, max_terms - len(kept_characters)))
        kept_words = kept_words[:num_words]
        kept_characters = kept_characters[: max_terms - num_words]
        counts = [word_rows[term] for term in kept_words]
        counts += [character_rows[term] for term in kept_characters]
        rows = np.asarray(counts, np.float64)
        idf = (1.0 + np.log((1 + num_rows) / (1 + rows))).astype(np.float32)
        return cls(analyzer, [*kept_words, *kept_characters], len(kept_words), idf)

    def rows(self, texts: Iterable[str]) -> SparseRows:
        """Features of every text; terms outside the vocabulary count for nothing."""
        ends: list[int] = []
        found: list[int] = []
        for text in texts:
            parts = self.analyzer.parts(text)
            found += self._known(self.analyzer.sequences(parts.words))
            for word in parts.alphabetic:
                found += self._inside_of(word)
            for run in parts.han:
                found += self._known(self.analyzer.across(run))
            ends.append(len(found))
        return self._weighted(*_counted(found, ends))

    def _known(self, terms: Iterable[str]) -> list[int]:
        """The indices of those terms that the vocabulary has."""
        return [index for index in map(self._ids.get, terms) if index is not None]

    def _inside_of(self, word: str) -> tuple[int, ...]:
        found = self._inside.get(word)
        if found is None:
            found = tuple(self._known(self.analyzer.inside(word)))
            if len(self._inside) < _REMEMBERED_WORDS:
                self._inside[word] = found
        return found

    def _weighted(self, starts: Indices, indices: Indices, counts: Indices) -> SparseRows:
        values = (1.0 + np.log(counts, dtype=np.float64)) * self.idf[indices]
        num_rows = len(starts) - 1
        # Words and characters of a row are two groups, each of length 1.
        row_of = np.repeat(np.arange(num_rows), np.diff(starts))
        group = 2 * row_of + (indices >= self.num_words)
        squares = np.bincount(group, weights=values * values, minlength=2 * num_rows)
        lengths = np.sqrt(squares)[group]
        scaled = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
        return SparseRows(starts, indices, scaled.astype(np.float32), len(self.vocabulary))


def _counted(found: list[int], ends: list[int]) -> tuple[Indices, Indices, Indices]:
    """Where rows start, their distinct terms in rising order, and how often each occurs.

    Row i has the terms ``found`` [ends[i - 1]:ends[i]], each as often as it occurs.
    """
    num_rows = len(ends)
    bounds = np.asarray([0, *ends], np.int64)
    row_of = np.repeat(np.arange(num_rows), bounds[1:] - bounds[:-1])
    # One number for row and term together: sorting it sorts by row, then by term.
    keys, counts = np.unique(row_of << 32 | np.asarray(found, np.int64), return_counts=True)
    starts = np.searchsorted(keys, np.arange(num_rows + 1) << 32)
    return starts, keys & 0xFFFFFFFF, counts


def _most_frequent(rows: Counter[str], min_rows: int, limit: int) -> list[str]:
    kept = [(-count, term) for term, count in rows.items() if count >= min_rows]
    kept.sort()
    return [term for _, term in kept[:limit]]
