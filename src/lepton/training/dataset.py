"""Texts with what a model shall learn to say about them."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.data.missing import MISSING
from lepton.errors import DataError
from lepton.training.config import Objective
from lepton.training.grouping import Indices, group_rows

Target = str | Sequence[str] | float | int | bool | None
LABEL_SEPARATOR = "|"
"""Stands between the labels of a text in a table."""


@dataclass(frozen=True)
class Dataset:
    """Texts and targets; immutable.

    ``targets`` are indices into ``labels``, int64 [texts] (single); 0 or 1 for each label,
    float32 [texts, labels] (multi); or numbers, float64 [texts] (regression, ``labels`` empty).
    """

    texts: tuple[str, ...]
    targets: npt.NDArray[Any]
    labels: tuple[str, ...]
    objective: Objective
    origins: tuple[Hashable | None, ...] | None = None
    """What each row was made from, as `lepton data augment` notes it; None: nothing is known."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Iterable[int]) -> Dataset:
        """The rows at ``indices``, in that order."""
        chosen = np.fromiter(indices, np.int64)
        texts = tuple(self.texts[index] for index in chosen)
        origins = self.origins and tuple(self.origins[index] for index in chosen)
        return replace(self, texts=texts, targets=self.targets[chosen], origins=origins)

    def joined(self, other: Dataset) -> Dataset:
        """These rows, then those of ``other``, which has the same labels."""
        targets = np.concatenate([self.targets, other.targets])
        origins = None
        if self.origins or other.origins:
            origins = (self.origins or (None,) * len(self)) + (
                other.origins or (None,) * len(other)
            )
        return replace(self, texts=self.texts + other.texts, targets=targets, origins=origins)

    @cached_property
    def groups(self) -> Indices:
        """A number for every row, shared by those that no split may part; see `group_rows`."""
        return group_rows(self.texts, self.origins, self.by_label())

    def by_label(self) -> list[Indices]:
        """The rows of each label; for a regression all rows, once."""
        if self.objective == "regression":
            return [np.arange(len(self))]
        if self.objective == "multi":
            return [np.flatnonzero(column) for column in self.targets.T]
        return [np.flatnonzero(self.targets == index) for index in range(len(self.labels))]

    def fingerprint(self) -> str:
        """SHA-256 over texts, targets, labels and origins: equal for equal data in equal order."""
        digest = hashlib.sha256()
        digest.update("\0".join((self.objective, *self.labels)).encode("utf-8", "surrogatepass"))
        for text in self.texts:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little"))
            digest.update(encoded)
        digest.update(np.ascontiguousarray(self.targets).tobytes())
        if self.origins:
            digest.update(repr(self.origins).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def counts(self) -> dict[str, int]:
        """How many texts have each label; empty for regression."""
        if self.objective == "single":
            occurrences: npt.NDArray[Any] = np.bincount(self.targets, minlength=len(self.labels))
        else:
            occurrences = self.targets.sum(axis=0) if self.objective == "multi" else np.zeros(0)
        return {label: int(count) for label, count in zip(self.labels, occurrences, strict=False)}


def make_dataset(
    texts: Iterable[str],
    targets: Iterable[Target],
    *,
    objective: Objective | None = None,
    labels: Sequence[str] | None = None,
    source: str | None = None,
) -> Dataset:
    """Check texts and targets and put them together.

    Args:
        texts: one string a row.
        targets: a label a row (single); labels, or one string with ``|`` between them (multi);
            a number (regression).
        objective: None finds it out.
        labels: the labels of a model that is evaluated; others in ``targets`` are an error. None
            takes those that occur, sorted.
        source: file name, for messages.

    Raises:
        DataError: lengths differ, a text or label is missing, there is nothing, or only one label.
    """
    rows, wanted = list(texts), list(targets)
    if len(rows) != len(wanted):
        raise DataError(f"there are {len(rows):,} texts but {len(wanted):,} labels", file=source)
    if not rows:
        raise DataError("there are no rows with a text and a label", file=source)
    for number, text in enumerate(rows, 1):
        if not isinstance(text, str):
            raise DataError(
                f"text {number:,} is a {type(text).__name__}, not a string", file=source
            )
    missing = [number for number, target in enumerate(wanted, 1) if is_missing(target)]
    if missing:
        shown = ", ".join(f"{number:,}" for number in missing[:5])
        raise DataError(
            f"{len(missing):,} rows have no label (rows {shown}"
            f"{', …' if len(missing) > 5 else ''}): fill them in or leave the rows out",
            file=source,
        )
    objective = objective or find_objective(wanted)
    if objective == "regression":
        numbers = _numbers(wanted, source)
        return Dataset(tuple(rows), numbers, (), objective)
    names = [label_set(target) if objective == "multi" else (name_of(target),) for target in wanted]
    known = tuple(labels) if labels is not None else _distinct(names)
    if labels is None and len(known) < 2:
        raise DataError(
            f"every row has the label {known[0] if known else ''!r:.80}: a model needs at least "
            "two labels to tell apart",
            file=source,
        )
    index_of = {label: index for index, label in enumerate(known)}
    unknown = Counter(name for row in names for name in row if name not in index_of)
    if unknown:
        listed = ", ".join(repr(name)[:40] for name, _ in unknown.most_common(5))
        raise DataError(
            f"{unknown.total():,} rows have labels that the model does not know: {listed}",
            file=source,
        )
    if objective == "single":
        single = np.asarray([index_of[row[0]] for row in names], np.int64)
        return Dataset(tuple(rows), single, known, objective)
    multi = np.zeros((len(rows), len(known)), np.float32)
    for index, row in enumerate(names):
        multi[index, [index_of[name] for name in row]] = 1.0
    return Dataset(tuple(rows), multi, known, objective)


def find_objective(targets: Sequence[Target]) -> Objective:
    """Several labels a text if any row lists them; regression if a number has a fraction."""
    if any(isinstance(target, list | tuple | set | frozenset) for target in targets):
        return "multi"
    if all(_is_number(target) for target in targets) and any(
        not float(target).is_integer()  # type: ignore[arg-type]
        for target in targets
    ):
        return "regression"
    return "single"


def name_of(target: Target) -> str:
    """The label as text; 3, 3.0 and numpy's 3 are all "3"."""
    if isinstance(target, float | np.floating) and float(target).is_integer():
        return str(int(target))
    return str(target).strip()


def label_set(target: Target) -> tuple[str, ...]:
    """The labels of a row: a sequence, or a string with ``|`` between them; may be none."""
    if isinstance(target, str):
        parts: Iterable[Any] = target.split(LABEL_SEPARATOR)
    elif isinstance(target, list | tuple | set | frozenset):
        parts = sorted(target, key=str) if isinstance(target, set | frozenset) else target
    else:
        parts = (target,)
    return tuple(dict.fromkeys(name for part in parts if (name := name_of(part))))


def is_missing(target: Target) -> bool:
    """Whether a label is absent: None, NaN, or one of `lepton.data.MISSING`."""
    if target is None:
        return True
    if isinstance(target, float | np.floating):
        return not math.isfinite(target)
    return isinstance(target, str) and target.strip() in MISSING


def _is_number(target: Target) -> bool:
    if isinstance(target, bool) or target is None:
        return False
    try:
        return math.isfinite(float(target))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _numbers(targets: Sequence[Target], source: str | None) -> npt.NDArray[np.float64]:
    for number, target in enumerate(targets, 1):
        if not _is_number(target):
            raise DataError(f"row {number:,}: {target!r:.80} is not a number", file=source)
    return np.asarray([float(target) for target in targets], np.float64)  # type: ignore[arg-type]


def _distinct(names: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted({name for row in names for name in row}))
