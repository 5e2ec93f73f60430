"""Requests that have never run yet, by whose they are and how urgent."""

from __future__ import annotations

from lepton.engine.request_options import RequestOptions


class Unadmitted:
    """How many there are of each priority and tenant.

    Changed by one thread; any may count or copy, as the interpreter does either at one go.
    """

    def __init__(self, counts: dict[tuple[int, str], int] | None = None) -> None:
        self._counts = counts or {}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def copy(self) -> Unadmitted:
        """The same numbers, apart from these."""
        return Unadmitted(self._counts.copy())

    def add(self, options: RequestOptions) -> None:
        """Count one more."""
        lane = (options.priority, options.tenant)
        self._counts[lane] = self._counts.get(lane, 0) + 1

    def remove(self, options: RequestOptions) -> None:
        """Count one less."""
        lane = (options.priority, options.tenant)
        self._counts[lane] -= 1
        if self._counts[lane] == 0:
            del self._counts[lane]

    def own(self, tenant: str) -> int:
        """How many are a tenant's."""
        return sum(count for (_, name), count in self._counts.items() if name == tenant)

    def ahead(self, tenant: str, priority: int) -> int:
        """How many will be admitted before one more of a tenant.

        All that are more urgent; of the same priority its own, and of each other tenant one for
        each of its own and one for itself, as tenants take turns.
        """
        urgent = {lane: count for lane, count in self._counts.items() if lane[0] <= priority}
        own = sum(count for (_, name), count in urgent.items() if name == tenant)
        others = (
            count if other < priority else min(count, own + 1)
            for (other, name), count in urgent.items()
            if name != tenant
        )
        return own + sum(others)

    def share(self, tenant: str, places: int) -> int:
        """What a tenant may have of ``places`` when it shares them with all who have requests."""
        tenants = {name for _, name in self._counts} | {tenant}
        return max(1, places // len(tenants))
