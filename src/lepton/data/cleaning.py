"""Cleaning a table: every row is kept, mended, or removed for a reason that is written down.

Two passes over the file: the first surveys it in a few dozen bytes a row, the second writes. Only
the search for near-duplicates holds texts in memory; it is left out beyond ``near_limit`` rows.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lepton.data.duplicates import similar_pairs, text_hash
from lepton.data.normalization import (
    comparison_key,
    normalize_unicode,
    simplify_chinese,
    strip_html,
    strip_urls,
)
from lepton.data.outliers import StrangeLetters, length_limit
from lepton.data.personal import mask_personal_data
from lepton.data.reading import TableReader
from lepton.data.table import Row, RowProblem
from lepton.errors import DataError


class Conflicts(StrEnum):
    """What becomes of one text under several labels."""

    MAJORITY = "majority"
    """The label that most of its rows have stays; all go where there is none."""
    DROP = "drop"
    KEEP = "keep"


class Reason(StrEnum):
    """Why a row was removed."""

    MISSING_TEXT = "missing text"
    MISSING_LABEL = "missing label"
    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    STRANGE = "strange letters"
    CONFLICT = "conflicting label"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near-duplicate"
    HELD_OUT = "in the held-out table"
    UNREADABLE = "could not be read"


_REASONS = tuple(Reason)


@dataclass(frozen=True)
class CleaningOptions:
    """What to mend and what to remove; the defaults suit a table to train a classifier on."""

    unicode: bool = True
    html: bool = True
    urls: bool = True
    simplify: bool = True
    """Traditional Chinese into simplified."""
    mask_personal: bool = False
    keep_unlabelled: bool = False
    min_letters: int = 2
    max_characters: int | None = None
    """Found from the lengths if not given; 0 for no limit."""
    strange: bool = True
    duplicates: bool = True
    conflicts: Conflicts = Conflicts.MAJORITY
    near: float = 0.9
    """Similarity from which a near-duplicate with the same label is removed; 0 keeps them."""
    near_limit: int = 200_000
    """Rows beyond which near-duplicates are not looked for."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A row that was removed."""

    row: Row
    """Its ``number`` is 0, and its values are None, where it could not be read."""
    reason: Reason
    detail: str


@dataclass(slots=True)
class CleaningReport:
    """What a cleaning did; filled while the rows are taken from ``Cleaning``."""

    read: int = 0
    """Rows of the file, those that could not be read too: ``kept`` and all of ``removed``."""
    kept: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    """Rows by what was changed in their text."""
    labels_before: Counter[str] = field(default_factory=Counter)
    labels_after: Counter[str] = field(default_factory=Counter)
    max_characters: int = 0
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """The report for machines; fields as here."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields, ensure_ascii=False, indent=2)


class Cleaning:
    """A cleaning of one table: iterate over it for the rows to keep and the removals.

    Args:
        reader: the table; it is read twice.
        options: what to do.
        held_out: texts of a test set that must not be in this table, nor anything like them.
        step: called as each of "survey", "compare" and "write" begins.
    """

    def __init__(
        self,
        reader: TableReader,
        options: CleaningOptions | None = None,
        *,
        held_out: Sequence[str] = (),
        step: Callable[[str], None] | None = None,
    ) -> None:
        self._reader = reader
        self._options = options or CleaningOptions()
        self._held_out = [self._mend(text)[0] for text in held_out]
        self._step = step or (lambda _: None)
        self._text_indices = [reader.columns.index(name) for name in reader.text_columns]
        self.report = CleaningReport()

    def __iter__(self) -> Iterator[Row | Removal]:
        self.report = CleaningReport()
        self._step("survey")
        survey = self._survey()
        self._step("compare")
        self._judge(survey)
        self._step("write")
        lost: list[RowProblem] = []
        for index, row in enumerate(self._reader.rows(lost.append)):
            yield from self._unreadable(lost)
            reason = survey.reasons[index]
            if row.label is not None:
                self.report.labels_before[row.label] += 1
            if reason:
                removal = Removal(row, _REASONS[reason - 1], survey.detail(index))
                self.report.removed[removal.reason] += 1
                yield removal
            else:
                self.report.kept += 1
                if row.label is not None:
                    self.report.labels_after[row.label] += 1
                yield self._mended(row)
        yield from self._unreadable(lost)
        self.report.read = self.report.kept + self.report.removed.total()

    def _unreadable(self, problems: list[RowProblem]) -> Iterator[Removal]:
        """The rejected rows among ``problems``, which is emptied."""
        nothing = (None,) * len(self._reader.columns)
        for problem in problems:
            if not problem.kept:
                self.report.removed[Reason.UNREADABLE] += 1
                row = Row(0, problem.line, None, None, nothing)
                yield Removal(row, Reason.UNREADABLE, problem.detail)
        problems.clear()

    def _survey(self) -> _Survey:
        survey = _Survey()
        letters = StrangeLetters() if self._options.strange else None
        held_out = {text_hash(comparison_key(text)) for text in self._held_out}
        limit = self._options.near_limit if self._options.near else 0
        label_ids: dict[str | None, int] = {None: 0}
        for row in self._reader:
            text = self._mend(row.text or "")[0]
            key = comparison_key(text)
            survey.hashes.append(text_hash(key))
            survey.labels.append(label_ids.setdefault(row.label, len(label_ids)))
            survey.lengths.append(len(text))
            survey.reasons.append(self._reason_alone(row, text, key, held_out))
            if survey.texts is not None:
                if letters is not None:
                    letters.add(text)
                survey.texts.append(text)
                if len(survey.texts) > limit:
                    survey.texts = None
        if not survey.reasons:
            raise DataError("no row below the header", file=self._reader.path)
        if self._options.near and survey.texts is None:
            self.report.notes.append(
                f"more than {limit:,} rows: near-duplicates and strange letters were left alone"
            )
        survey.letters = letters
        return survey

    def _reason_alone(self, row: Row, text: str, key: str, held_out: set[int]) -> int:
        """Why a row goes, as far as it alone tells."""
        options = self._options
        if not text:
            return _code(Reason.MISSING_TEXT)
        labelled = self._reader.label_column is None or row.label is not None
        if not labelled and not options.keep_unlabelled:
            return _code(Reason.MISSING_LABEL)
        if sum(map(str.isalnum, key)) < options.min_letters:
            return _code(Reason.TOO_SHORT)
        if held_out and text_hash(key) in held_out:
            return _code(Reason.HELD_OUT)
        return 0

    def _judge(self, survey: _Survey) -> None:
        """Why a row goes, as far as the others tell."""
        options = self._options
        reasons = np.frombuffer(survey.reasons, np.uint8).copy()
        lengths = np.frombuffer(survey.lengths, np.uint32)
        limit = options.max_characters
        if limit is None:
            limit = length_limit(lengths[reasons == 0])
        self.report.max_characters = limit
        if limit:
            reasons[(reasons == 0) & (lengths > limit)] = _code(Reason.TOO_LONG)
        hashes = np.frombuffer(survey.hashes, np.uint64)
        labels = np.frombuffer(survey.labels, np.uint32)
        others = np.zeros(len(reasons), np.int64)
        if options.duplicates or options.conflicts is not Conflicts.KEEP:
            _judge_equals(reasons, others, hashes, labels, options)
        if survey.letters is not None and survey.texts is not None:
            for index in np.flatnonzero(reasons == 0):
                if survey.letters.strange(survey.texts[index]):
                    reasons[index] = _code(Reason.STRANGE)
        if survey.texts is not None and options.near:
            self._judge_near(survey.texts, reasons, others, labels)
        survey.settle(reasons, others)

    def _judge_near(
        self,
        texts: list[str],
        reasons: NDArray[np.uint8],
        others: NDArray[np.int64],
        labels: NDArray[np.uint32],
    ) -> None:
        left = np.flatnonzero(reasons == 0)
        held_out = self._held_out
        rows = [texts[index] for index in left]
        for pair in similar_pairs([*held_out, *rows], threshold=self._options.near):
            second = pair.second - len(held_out)
            if second < 0 or reasons[left[second]]:
                continue
            if pair.first < len(held_out):
                reasons[left[second]] = _code(Reason.HELD_OUT)
                continue
            first = left[pair.first - len(held_out)]
            if reasons[first] == 0 and labels[first] == labels[left[second]]:
                reasons[left[second]] = _code(Reason.NEAR_DUPLICATE)
                others[left[second]] = first + 1

    def _mended(self, row: Row) -> Row:
        values = list(row.values)
        for index in self._text_indices:
            value = values[index]
            if value is not None:
                values[index], steps = self._mend(value)
                self.report.mended.update(steps)
        text = "\n".join(value for index in self._text_indices if (value := values[index]))
        return Row(row.number, row.line, text, row.label, tuple(values))

    def _mend(self, text: str) -> tuple[str, list[str]]:
        """The text after every step, and the steps that changed it."""
        options = self._options
        steps = []
        for wanted, name, change in (
            (options.html, "HTML", strip_html),
            (options.urls, "web addresses", strip_urls),
            (options.unicode, "Unicode", normalize_unicode),
            (options.simplify, "traditional Chinese", simplify_chinese),
            (options.mask_personal, "personal data", mask_personal_data),
        ):
            if not wanted:
                continue
            changed = change(text)
            if changed != text:
                steps.append(name)
                text = changed
        return text.strip(), steps


class _Survey:
    """What the first pass notes of every row, 17 bytes each, and the texts while they are few."""

    def __init__(self) -> None:
        self.hashes = array("Q")
        self.labels = array("I")
        self.lengths = array("I")
        self.reasons = bytearray()
        self.texts: list[str] | None = []
        self.letters: StrangeLetters | None = None
        self._others: NDArray[np.int64] | None = None

    def settle(self, reasons: NDArray[np.uint8], others: NDArray[np.int64]) -> None:
        """Take over the final judgement; ``others`` are row numbers."""
        self.reasons = bytearray(reasons.tobytes())
        self._others = others

    def detail(self, index: int) -> str:
        """What a removal says beside its reason."""
        reason = _REASONS[self.reasons[index] - 1]
        if self._others is not None and self._others[index]:
            return f"of row {self._others[index]}"
        if reason in (Reason.TOO_LONG, Reason.TOO_SHORT):
            return f"{self.lengths[index]} characters"
        return ""


def _judge_equals(
    reasons: NDArray[np.uint8],
    others: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    labels: NDArray[np.uint32],
    options: CleaningOptions,
) -> None:
    """Conflicting labels first, then all but the first of each text."""
    left = np.flatnonzero(reasons == 0)
    order = left[np.argsort(hashes[left], kind="stable")]
    starts = np.flatnonzero(np.r_[True, np.diff(hashes[order]) != 0])
    ends = np.r_[starts[1:], len(order)]
    several = ends - starts > 1
    for start, end in zip(starts[several], ends[several], strict=True):
        kept = rows = order[start:end]
        if options.conflicts is not Conflicts.KEEP and len(set(labels[rows].tolist())) > 1:
            found, counts = np.unique(labels[rows], return_counts=True)
            winners = found[counts == counts.max()]
            lone = options.conflicts is Conflicts.MAJORITY and len(winners) == 1
            agrees = labels[rows] == winners[0] if lone else np.zeros(len(rows), bool)
            reasons[rows[~agrees]] = _code(Reason.CONFLICT)
            kept = rows[agrees]
            if len(kept):
                others[rows[~agrees]] = kept[0] + 1
        if options.duplicates:
            firsts: dict[int, int] = {}
            for row in kept.tolist():
                first = firsts.setdefault(int(labels[row]), row)
                if first != row:
                    reasons[row] = _code(Reason.DUPLICATE)
                    others[row] = first + 1


def _code(reason: Reason) -> int:
    return _REASONS.index(reason) + 1
