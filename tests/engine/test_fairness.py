from __future__ import annotations

import pytest

from lepton.engine.fairness import TenantShares


def test_who_comes_back_starts_level() -> None:
    shares = TenantShares()
    shares.arrive("busy")
    shares.charge("busy", read=100, generated=10)
    assert shares.served("busy") == 120
    shares.arrive("new")
    assert shares.served("new") == 120
    shares.charge("new", read=0, generated=1)
    shares.leave("new")
    shares.charge("busy", read=500, generated=0)
    shares.arrive("new")
    assert shares.served("new") == shares.served("busy") == 620


def test_leaving_wipes_nothing_out() -> None:
    shares = TenantShares()
    shares.arrive("greedy")
    shares.arrive("modest")
    shares.charge("greedy", read=1000, generated=0)
    shares.leave("greedy")
    shares.arrive("greedy")
    assert shares.served("greedy") == 1000
    assert shares.served("modest") == 0


@pytest.mark.parametrize("leaving", [["modest", "greedy"], ["greedy", "modest"]])
def test_nobody_waits_for_others_to_catch_up_with_the_past(leaving: list[str]) -> None:
    shares = TenantShares()
    shares.arrive("modest")
    shares.arrive("greedy")
    shares.charge("modest", read=100, generated=0)
    shares.charge("greedy", read=10_000_000, generated=0)
    for last in leaving:
        shares.leave(last)
    shares.arrive("new")
    shares.charge("new", read=1000, generated=0)
    for tenant in leaving:
        shares.arrive(tenant)
        assert shares.served(tenant) == shares.served("new")


def test_tenants_without_number_take_no_memory() -> None:
    shares = TenantShares()
    shares.arrive("always")
    for number in range(20_000):
        shares.arrive(str(number))
        shares.leave(str(number))
    assert shares.num_present == 1
    assert len(shares._served) < 5_000
