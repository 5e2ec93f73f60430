"""Rows that stay on one side when some of them judge what the others taught."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from lepton.data.duplicates import duplicate_groups
from lepton.training.analyzer import normalize

MOST_ROWS = 100_000
"""Beyond so many, near-duplicates are not looked for: that would take gigabytes."""

Indices = npt.NDArray[np.int64]


def group_rows(
    texts: Sequence[str], origins: Sequence[Hashable | None] | None, by_label: Iterable[Indices]
) -> Indices:
    """A number for every row, shared by what belongs together.

    Equal texts, rows of one origin, near-duplicates, and whatever these link belong together. A
    label of which one group would hold more than half is grouped without near-duplicates: texts
    made from one pattern are all near each other, and whoever judges them would have seen none.

    Args:
        texts: of the rows.
        origins: what each row was made from; None stands for a row of its own.
        by_label: the rows of each label.

    Returns:
        int64 [rows].

    Raises:
        ConfigurationError: the package that finds near-duplicates is not installed.
    """
    rows = range(len(texts))
    known = [
        ("row", row) if origins is None or origins[row] is None else origins[row] for row in rows
    ]
    kept = [_numbered([normalize(text) for text in texts]), _numbered(known)]
    strict = _components(kept)
    if len(texts) > MOST_ROWS:
        return strict
    groups = _components([strict, duplicate_groups(texts)])
    for members in by_label:
        sizes = np.unique(groups[members], return_counts=True)[1]
        if 2 * sizes.max(initial=0) > len(members):
            groups[members] = len(texts) + strict[members]
    return groups


def _components(partitions: Sequence[Indices]) -> Indices:
    """The finest groups that no group of ``partitions`` straddles."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(partitions[0])
    rows = np.arange(count)
    leaders = [np.unique(part, return_index=True, return_inverse=True)[1:] for part in partitions]
    first = np.concatenate([starts[inverse] for starts, inverse in leaders])
    second = np.tile(rows, len(partitions))
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    groups: Indices = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def _numbered(values: Iterable[Hashable]) -> Indices:
    seen: dict[Hashable, int] = {}
    return np.fromiter((seen.setdefault(value, len(seen)) for value in values), np.int64)
