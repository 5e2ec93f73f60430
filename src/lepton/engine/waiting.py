"""Sequences that wait for blocks, and whose turn it is."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from heapq import merge

from lepton.engine.fairness import TenantShares
from lepton.engine.sequence import Sequence


class WaitingQueue:
    """Lower priority numbers first, then the tenant served least, then the order of arrival.

    Sequences that were preempted return to the place that their arrival gives them.
    """

    def __init__(self, shares: TenantShares) -> None:
        self._shares = shares
        self._lanes: dict[tuple[int, str], list[Sequence]] = {}
        """By priority and tenant, each in order of arrival; none is empty."""

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __contains__(self, sequence: Sequence) -> bool:
        lane = self._lanes.get(_lane(sequence), [])
        place = bisect_left(lane, sequence.arrival, key=_arrival)
        return place < len(lane) and lane[place] is sequence

    def __iter__(self) -> Iterator[Sequence]:
        """All of them, in the order of their turns; the queue must not change meanwhile."""
        turns: dict[tuple[int, float], list[list[Sequence]]] = {}
        for (priority, tenant), lane in self._lanes.items():
            turns.setdefault((priority, self._shares.served(tenant)), []).append(lane)
        for turn in sorted(turns):
            lanes = turns[turn]
            yield from lanes[0] if len(lanes) == 1 else merge(*lanes, key=_arrival)

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait."""
        insort(self._lanes.setdefault(_lane(sequence), []), sequence, key=_arrival)

    def remove(self, sequence: Sequence) -> None:
        """Take a waiting sequence out."""
        key = _lane(sequence)
        lane = self._lanes[key]
        del lane[bisect_left(lane, sequence.arrival, key=_arrival)]
        if not lane:
            del self._lanes[key]

    @property
    def oldest_arrival(self) -> float | None:
        """When the first request arrived that waits and has never run; None: there is none."""
        new = (
            next((each.request.arrived for each in lane if each.request.scheduled is None), None)
            for lane in self._lanes.values()
        )
        return min((arrived for arrived in new if arrived is not None), default=None)


def _lane(sequence: Sequence) -> tuple[int, str]:
    options = sequence.request.options
    return options.priority, options.tenant


def _arrival(sequence: Sequence) -> int:
    return sequence.arrival
