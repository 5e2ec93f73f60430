"""Who has been served how much, so that tenants get equal shares."""

from __future__ import annotations

from collections import Counter

_MOST_IDLE = 4096
_GENERATED_WEIGHT = 2


class TenantShares:
    """A counter of tokens served per tenant: the one served least is next (arXiv:2401.00588).

    A tenant that comes back after a pause starts level with those who stayed, so that nobody
    saves up service by asking for nothing. When nobody has, all start anew: the past is forgotten.
    Mutated by the step loop only.
    """

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._present: Counter[str] = Counter()
        """Unfinished sequences of each tenant that has any."""

    @property
    def num_present(self) -> int:
        """Tenants with unfinished sequences."""
        return len(self._present)

    def arrive(self, tenant: str) -> None:
        """Note one more sequence of a tenant."""
        if tenant not in self._present:
            self._served[tenant] = max(self._served.get(tenant, 0.0), self._level())
        self._present[tenant] += 1

    def leave(self, tenant: str) -> None:
        """Note that a sequence of a tenant is finished."""
        self._present[tenant] -= 1
        if self._present[tenant] == 0:
            del self._present[tenant]
            self._forget_idle()

    def charge(self, tenant: str, read: int, generated: int) -> None:
        """Count tokens that a step has read and generated for a tenant."""
        self._served[tenant] += read + _GENERATED_WEIGHT * generated

    def served(self, tenant: str) -> float:
        """What a tenant who is present has been given, comparable with others'."""
        return self._served[tenant]

    def _level(self) -> float:
        """What the least served of those present has had."""
        return min((self._served[tenant] for tenant in self._present), default=0.0)

    def _forget_idle(self) -> None:
        """Bound the memory of absent tenants; those at or below the level lose nothing by it."""
        if not self._present:
            self._served.clear()
        if len(self._served) - len(self._present) <= _MOST_IDLE:
            return
        level = self._level()
        for tenant in list(self._served):
            if tenant not in self._present and self._served[tenant] <= level:
                del self._served[tenant]
