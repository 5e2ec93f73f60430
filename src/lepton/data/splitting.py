"""Splits that keep the labels' shares, and keep what belongs together on one side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton.errors import DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Row indices (from 0) of each part, ascending, and what the labels did not allow."""

    train: Indices
    dev: Indices
    test: Indices
    warnings: tuple[str, ...]


def split(
    labels: Sequence[Hashable],
    *,
    groups: Sequence[Hashable] | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Split:
    """Split rows into train, dev and test.

    Args:
        labels: of every row; all equal (or all None) for a split without regard to labels.
        groups: rows of one group never straddle two parts (near-duplicates, one customer's
            messages); every row stands alone if not given.
        fractions: of the rows that go to train, dev and test; they add up to 1.
        seed: the same seed gives the same split.

    Returns:
        The three parts; a label with a single group stays in train, and a warning says so.

    Raises:
        DataError: there are no rows, or the fractions are not ones.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or fractions[0] <= 0:
        shares = ", ".join(f"{share:.3g}" for share in fractions)
        raise DataError(
            f"the fractions of train, dev and test must add up to 1, some for train, not {shares}"
        )
    parts = _assign(labels, groups, fractions, seed)
    train, dev, test = (np.flatnonzero(parts == part) for part in range(3))
    return Split(train, dev, test, tuple(_warnings(labels, parts, fractions)))


def folds(
    labels: Sequence[Hashable],
    count: int,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> list[tuple[Indices, Indices]]:
    """``count`` pairs of (train, test) indices for cross-validation; see ``split``.

    Raises:
        DataError: fewer than two folds, or fewer groups than folds.
    """
    alone = len(set(groups)) if groups is not None else len(labels)
    if alone == 1:
        raise DataError("all rows are alike or of one group: none can be held out")
    if not 2 <= count <= alone:
        raise DataError(f"{count} folds need between 2 and {alone} rows or groups to go round")
    parts = _assign(labels, groups, (1 / count,) * count, seed, spread=True)
    return [(np.flatnonzero(parts != fold), np.flatnonzero(parts == fold)) for fold in range(count)]


def _assign(
    labels: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    fractions: tuple[float, ...],
    seed: int,
    *,
    spread: bool = False,
) -> NDArray[np.int64]:
    """The part of every row.

    Iterative stratification (Sechidis et al. 2011): groups are handed out one by one, those of the
    rarest label first and the largest first among them, each to the part that still lacks most of
    that label.
    """
    if not labels:
        raise DataError("there is no row to split")
    if groups is not None and len(groups) != len(labels):
        raise DataError(f"{len(groups)} groups for {len(labels)} labels")
    label_ids = _identifiers(labels)
    group_ids = np.arange(len(labels)) if groups is None else _identifiers(groups)
    sizes = np.bincount(group_ids)
    label_sizes = np.bincount(label_ids)

    # A group is handed out by its rarest label; a stable sort after a shuffle breaks ties.
    by_rarity = np.argsort(label_sizes, kind="stable")
    rank = np.empty_like(by_rarity)
    rank[by_rarity] = np.arange(len(by_rarity))
    lowest = np.full(len(sizes), len(rank))
    np.minimum.at(lowest, group_ids, rank[label_ids])
    rarest = by_rarity[lowest]
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.lexsort((-sizes[order], lowest[order]))]

    shares = np.asarray(fractions)
    wanted = label_sizes[:, None] * shares
    room = len(labels) * shares
    rows_of_group = np.split(np.argsort(group_ids, kind="stable"), np.cumsum(sizes)[:-1])
    groups_of_label = np.bincount(rarest, minlength=len(label_sizes))
    parts = np.empty(len(labels), np.int64)
    for group in order:
        label = rarest[group]
        rows = rows_of_group[group]
        if groups_of_label[label] == 1 and not spread:
            part = 0
        else:
            part = int(np.lexsort((-shares, -room, -wanted[label]))[0])
        parts[rows] = part
        np.subtract.at(wanted[:, part], label_ids[rows], 1)
        room[part] -= len(rows)
    return parts


def _identifiers(values: Sequence[Hashable]) -> NDArray[np.int64]:
    seen: dict[Hashable, int] = {}
    return np.fromiter((seen.setdefault(value, len(seen)) for value in values), np.int64)


def _warnings(
    labels: Sequence[Hashable], parts: NDArray[np.int64], fractions: tuple[float, ...]
) -> list[str]:
    totals = Counter(labels)
    warnings = []
    if len(totals) == 1 and next(iter(totals)) is not None:
        warnings.append(f"every row has the label {next(iter(totals))!r}: nothing to classify")
    names = ("train", "dev", "test")
    present = [{labels[int(index)] for index in np.flatnonzero(parts == part)} for part in range(3)]
    for label, total in totals.items():
        absent = [
            names[part] for part in range(3) if fractions[part] > 0 and label not in present[part]
        ]
        if absent:
            rows = "row" if total == 1 else "rows"
            warnings.append(
                f"label {label!r} has {total} {rows}: none went to {' and '.join(absent)}"
            )
    return warnings
