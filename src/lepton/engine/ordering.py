"""In what order many prompts are best computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from lepton.models.executors.base import BLOCK_SIZE


def throughput_order(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Places of the prompts in the order of best throughput.

    Prompts that begin alike follow each other, so that the prefix cache still holds what they
    share. Such groups, and prompts that share nothing, go longest first: short ones fill the gaps
    at the end, where a long one would run alone.
    """
    groups = list(_groups(prompts))
    groups.sort(key=lambda group: max(len(prompts[place]) for place in group), reverse=True)
    return [place for group in groups for place in group]


def _groups(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Prompts that share a block more than all of them do, each group in lexicographic order."""
    ordered = sorted(range(len(prompts)), key=lambda place: tuple(prompts[place]))
    if not ordered:
        return
    of_all = _common(prompts[ordered[0]], prompts[ordered[-1]])
    group = [ordered[0]]
    for before, after in pairwise(ordered):
        if _common(prompts[before], prompts[after]) >= of_all + BLOCK_SIZE:
            group.append(after)
        else:
            yield group
            group = [after]
    yield group


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens are the same."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
