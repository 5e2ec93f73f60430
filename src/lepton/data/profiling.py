"""A profile of a table: what is in it, and what is wrong with it, in one pass.

Counts, lengths, labels and exact duplicates cover every row. Near-duplicates, strange texts, words
and examples come from a random sample of ``sample_rows`` (Vitter's algorithm R).
"""

from __future__ import annotations

import random
from array import array
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton.data.duplicates import NEAR, SimilarPair, similar_pairs, text_hash
from lepton.data.findings import MAX_LABELS, Example, LabelProfile, Lengths, Profile, warnings_of
from lepton.data.label_words import label_words
from lepton.data.languages import language
from lepton.data.normalization import comparison_key, strip_html, strip_urls
from lepton.data.outliers import StrangeLetters, length_limit
from lepton.data.personal import find_personal_data, mask_personal_data
from lepton.data.reading import TableReader
from lepton.data.scripts import has_han
from lepton.data.table import Row
from lepton.data.words import count_words
from lepton.errors import ConfigurationError, DataError

_EXAMPLES = 8
_SAMPLE_CHARACTERS = 4000
_QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
_WORD_TEXTS = 20_000


def profile(reader: TableReader, *, sample_rows: int = 50_000, seed: int = 0) -> Profile:
    """Profile the table behind ``reader``, in memory of about 25 bytes a row and the sample.

    Raises:
        DataError: there is no row.
    """
    builder = _Builder(reader, sample_rows, seed)
    for row in reader:
        builder.add(row)
    return builder.finish()


class _Builder:
    def __init__(self, reader: TableReader, sample_rows: int, seed: int) -> None:
        self._reader = reader
        self._sample_rows = sample_rows
        self._random = random.Random(seed)  # noqa: S311
        self._sample: list[Row] = []
        self._hashes = array("Q")
        self._label_of_row = array("I")
        self._characters = array("I")
        self._word_counts = array("I")
        self._labels: Counter[str] = Counter()
        self._label_ids: dict[str | None, int] = {None: 0}
        self._languages: Counter[str] = Counter()
        self._personal: Counter[str] = Counter()
        self._markup: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self._letters = StrangeLetters()
        self._examples: dict[str, list[Example]] = {}
        self.profile = Profile(
            str(reader.path),
            reader.columns,
            reader.text_columns,
            reader.label_column,
            reader.encoding,
            reader.delimiter,
        )

    def add(self, row: Row) -> None:
        self.profile.rows += 1
        for column, value in zip(self._reader.columns, row.values, strict=True):
            if value is None:
                self._missing[column] += 1
        if row.label is None:
            self.profile.missing_label += 1
        elif row.label in self._labels or len(self._labels) < MAX_LABELS:
            self._labels[row.label] += 1
            self._label_ids.setdefault(row.label, len(self._label_ids))
        if not row.text:
            self.profile.missing_text += 1
            return
        self._add_text(row, row.text)

    def _add_text(self, row: Row, text: str) -> None:
        self._hashes.append(text_hash(comparison_key(text)))
        self._label_of_row.append(self._label_ids.get(row.label, 0))
        self._characters.append(len(text))
        self._word_counts.append(count_words(text))
        self._languages[language(text)] += 1
        self._letters.add(text)
        for kind in {place.kind for place in find_personal_data(text)}:
            self._personal[kind] += 1
            self._show("personal data", row, kind)
        if strip_html(text) != text:
            self._markup["HTML"] += 1
            self._show("markup", row, "HTML")
        if strip_urls(text) != text:
            self._markup["web addresses"] += 1
            self._show("markup", row, "web address")
        kept = Row(row.number, row.line, text[:_SAMPLE_CHARACTERS], row.label, ())
        if len(self._sample) < self._sample_rows:
            self._sample.append(kept)
        else:
            place = self._random.randrange(len(self._hashes))
            if place < self._sample_rows:
                self._sample[place] = kept

    def finish(self) -> Profile:
        result = self.profile
        if not result.rows:
            raise DataError("no row below the header", file=self._reader.path)
        problems = self._reader.problems
        result.rejected, result.mended = dict(problems.rejected), dict(problems.mended)
        result.problems = problems.first
        result.missing_by_column = {
            column: self._missing[column] for column in self._reader.columns
        }
        result.languages = dict(self._languages.most_common())
        result.personal_data = dict(self._personal.most_common())
        result.markup = dict(self._markup.most_common())
        result.sampled_rows = len(self._sample)
        lengths = np.frombuffer(self._characters, np.uint32).astype(np.int64)
        if len(lengths):
            result.characters = _lengths(lengths)
            result.words = _lengths(np.frombuffer(self._word_counts, np.uint32).astype(np.int64))
            result.longest_normal = length_limit(lengths)
            result.too_long_rows = int(np.sum(lengths > result.longest_normal))
        self._count_equal_texts()
        self._look_at_sample()
        self._describe_labels(lengths)
        result.examples = self._examples
        result.warnings = warnings_of(result)
        return result

    def _count_equal_texts(self) -> None:
        hashes = np.frombuffer(self._hashes, np.uint64)
        labels = np.frombuffer(self._label_of_row, np.uint32)
        unique, inverse = np.unique(hashes, return_inverse=True)
        self.profile.duplicate_rows = len(hashes) - len(unique)
        labelled = labels > 0
        pairs = np.unique(np.stack([inverse[labelled], labels[labelled]], axis=1), axis=0)
        labels_of_text = np.bincount(pairs[:, 0], minlength=1)
        self.profile.conflicting_texts = int(np.sum(labels_of_text > 1))

    def _look_at_sample(self) -> None:
        self._sample.sort(key=lambda row: row.number)
        texts = [row.text or "" for row in self._sample]
        near_rows = set()
        for pair in similar_pairs(texts, threshold=NEAR):
            first, second = self._sample[pair.first], self._sample[pair.second]
            if comparison_key(texts[pair.first]) != comparison_key(texts[pair.second]):
                near_rows.add(pair.second)
                self._show("near-duplicates", second, _beside(pair, first))
            elif first.label != second.label and None not in (first.label, second.label):
                detail = f"{first.label!r} in row {first.number}"
                self._show("conflicting labels", second, detail)
        self.profile.near_duplicate_rows = len(near_rows)
        simplified = _simplifier(texts)
        for row, text in zip(self._sample, texts, strict=True):
            if len(text) > self.profile.longest_normal:
                self._show("too long", row, f"{len(text):,} characters")
            if self._letters.strange(text):
                self.profile.strange_rows += 1
                self._show("strange letters", row, "")
            if not any(map(str.isalnum, text)):
                self._show("without words", row, "")
            if simplified is not None and simplified(text) != text:
                self.profile.markup["traditional Chinese"] = (
                    self.profile.markup.get("traditional Chinese", 0) + 1
                )
                self._show("markup", row, "traditional Chinese")

    def _describe_labels(self, lengths: NDArray[np.int64]) -> None:
        ids = np.frombuffer(self._label_of_row, np.uint32)
        words = self._label_words()
        total = self._labels.total()
        for name, count in self._labels.most_common():
            own = lengths[ids == self._label_ids[name]] if len(self.profile.labels) < 200 else []
            median = int(np.median(own)) if len(own) else 0
            self.profile.labels.append(
                LabelProfile(name, count, count / total, median, words.get(name, {}))
            )
        self.profile.label_count = len(self._labels)
        variants: dict[str, list[str]] = {}
        for name in self._labels:
            variants.setdefault(comparison_key(name), []).append(name)
        self.profile.label_variants = [names for names in variants.values() if len(names) > 1]

    def _label_words(self) -> dict[str, dict[str, tuple[str, ...]]]:
        rows = [
            (row.label, row.text)
            for row in self._sample[:_WORD_TEXTS]
            if row.label is not None and row.text
        ]
        try:
            return label_words(rows)
        except ConfigurationError:
            return {}

    def _show(self, finding: str, row: Row, detail: str) -> None:
        shown = self._examples.setdefault(finding, [])
        if len(shown) < _EXAMPLES:
            text = mask_personal_data((row.text or "")[:_SAMPLE_CHARACTERS])
            cut = f"{text[:200]}…" if len(text) > 200 else text
            shown.append(Example(row.number, row.line, row.label, cut, detail))


def _beside(pair: SimilarPair, first: Row) -> str:
    text = mask_personal_data(first.text or "")[:200]
    return f"{pair.similarity:.0%} like row {first.number}: {text}"


def _lengths(values: NDArray[np.int64]) -> Lengths:
    quantiles = {f"{100 * q:.0f}": int(np.quantile(values, q)) for q in _QUANTILES}
    # Widths grow with the length: most texts are short, and a few are very long.
    edges = [0]
    while edges[-1] <= values.max():
        edges.append(max(edges[-1] + 5, int(edges[-1] * 1.25)))
    counts, _ = np.histogram(values, bins=[*edges[:-1], edges[-1] - 0.5])
    histogram = [
        (start, end, int(count))
        for start, end, count in zip(edges, edges[1:], counts, strict=False)
    ]
    return Lengths(float(values.mean()), quantiles, histogram)


def _simplifier(texts: list[str]) -> Any:
    from lepton.data.normalization import simplify_chinese

    try:
        simplify_chinese(next((text for text in texts if has_han(text)), ""))
    except ConfigurationError:
        return None
    return simplify_chinese
