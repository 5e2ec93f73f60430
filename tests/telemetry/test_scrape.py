from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from lepton.errors import ConfigurationError
from lepton.telemetry.scrape import Interval, read_scrape

BOUNDS = (1.0, 2.0, 4.0, 8.0)


class Source:
    """Metrics to read."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.counter = Counter("tokens", "Tokens", ["model", "kind"], registry=registry)
        self.histogram = Histogram("wait", "Wait", registry=registry, buckets=BOUNDS)

    def read(self, taken: float) -> object:
        return read_scrape(generate_latest(self._registry).decode(), taken)


def test_rates_and_shares_of_an_interval() -> None:
    source = Source()
    source.counter.labels("m", "a").inc(5)
    before = source.read(0.0)
    source.counter.labels("m", "a").inc(6)
    source.counter.labels("m", "b").inc(2)
    interval = Interval(before, source.read(4.0))
    assert interval.now("tokens_total") == 13
    assert interval.gained("tokens_total") == 8
    assert interval.rate("tokens_total") == 2
    assert interval.share("tokens_total", "tokens_total") == 1
    assert interval.share("tokens_total", "none_total") is None
    assert interval.after.labels["model"] == "m"
    assert "kind" not in interval.after.labels


def test_a_restarted_server_counts_from_nothing() -> None:
    old, new = Source(), Source()
    old.counter.labels("m", "a").inc(100)
    new.counter.labels("m", "a").inc(3)
    for _ in range(9):
        old.histogram.observe(0.5)
    new.histogram.observe(3)
    interval = Interval(old.read(0.0), new.read(1.0))
    assert interval.gained("tokens_total") == 3
    assert interval.quantile("wait", 1.0) == 4


@given(st.lists(st.floats(0, 8), min_size=1, max_size=50), st.floats(0.01, 1))
def test_quantiles_lie_in_the_bucket_of_the_value(values: list[float], share: float) -> None:
    source = Source()
    source.histogram.observe(100)
    before = source.read(0.0)
    for value in values:
        source.histogram.observe(value)
    found = Interval(before, source.read(1.0)).quantile("wait", share)
    assert found is not None
    rank = next(n for n in range(1, len(values) + 1) if n >= share * len(values))
    exact = sorted(values)[rank - 1]
    upper = next(bound for bound in BOUNDS if exact <= bound)
    lower = max((bound for bound in BOUNDS if bound < exact), default=0.0)
    assert lower <= found <= upper


def test_nothing_observed_has_no_quantile_and_the_last_bound_is_the_most() -> None:
    source = Source()
    before = source.read(0.0)
    assert Interval(before, source.read(1.0)).quantile("wait", 0.5) is None
    source.histogram.observe(1e9)
    assert Interval(before, source.read(1.0)).quantile("wait", 0.5) == BOUNDS[-1]


def test_what_is_no_metrics_page_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="format"):
        read_scrape("<html>not metrics</html>\n{}", 0.0)
