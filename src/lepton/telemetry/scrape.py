"""Reading a server's metrics back: values, rates between two readings, quantiles of histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lepton.errors import ConfigurationError


@dataclass(frozen=True)
class Scrape:
    """One reading of ``/metrics``; series that differ only by labels are summed."""

    values: Mapping[str, float]
    """By the name of the sample, such as ``lepton_generation_tokens_total``."""
    buckets: Mapping[str, Mapping[float, float]]
    """Cumulative counts by upper bound, by the name of the histogram."""
    labels: Mapping[str, str]
    """Every label that has one value only, such as ``model_name``."""
    by_key: Mapping[str, Mapping[str, float]]
    """Of samples that have the label ``key``: sums by its value."""
    taken: float
    """When, in seconds of a steady clock."""


def read_scrape(text: str, taken: float) -> Scrape:
    """Parse Prometheus' text format; ConfigurationError when it is none."""
    from prometheus_client.parser import text_string_to_metric_families

    values: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    labels: dict[str, set[str]] = {}
    by_key: dict[str, dict[str, float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
                if sample.name.endswith("_bucket"):
                    bounds = buckets.setdefault(family.name, {})
                    bound = float(sample.labels["le"])
                    bounds[bound] = bounds.get(bound, 0.0) + sample.value
                else:
                    values[sample.name] = values.get(sample.name, 0.0) + sample.value
                if (key := sample.labels.get("key")) is not None:
                    of_keys = by_key.setdefault(sample.name, {})
                    of_keys[key] = of_keys.get(key, 0.0) + sample.value
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"what was read is not in Prometheus' format: {error}") from None
    single = {name: next(iter(found)) for name, found in labels.items() if len(found) == 1}
    return Scrape(values, buckets, single, by_key, taken)


@dataclass(frozen=True)
class Interval:
    """What happened between two readings of one server; a restart in between begins anew."""

    before: Scrape
    after: Scrape

    @property
    def seconds(self) -> float:
        """Time between them."""
        return self.after.taken - self.before.taken

    def now(self, name: str) -> float:
        """The value of a gauge, or of a counter since the start; 0 when there is none."""
        return self.after.values.get(name, 0.0)

    def gained(self, name: str) -> float:
        """What a counter has gained."""
        return _gain(self.now(name), self.before.values.get(name, 0.0))

    def rate(self, name: str) -> float:
        """What a counter gains per second."""
        return self.gained(name) / self.seconds if self.seconds > 0 else 0.0

    def rates_by_key(self, name: str) -> dict[str, float]:
        """What a counter gains per second for each value of its label ``key``."""
        if self.seconds <= 0:
            return {}
        before = self.before.by_key.get(name, {})
        return {
            key: _gain(now, before.get(key, 0.0)) / self.seconds
            for key, now in self.after.by_key.get(name, {}).items()
        }

    def share(self, part: str, whole: str) -> float | None:
        """How much of one counter's gain another's is; None when nothing was gained."""
        gained = self.gained(whole)
        return self.gained(part) / gained if gained > 0 else None

    def quantile(self, histogram: str, share: float) -> float | None:
        """The value that ``share`` of the interval's observations do not exceed.

        Interpolated within a bucket, as Prometheus' histogram_quantile does; above the last finite
        bound it is that bound. None when nothing was observed.
        """
        after = self.after.buckets.get(histogram, {})
        before = self.before.buckets.get(histogram, {})
        restarted = any(count < before.get(bound, 0.0) for bound, count in after.items())
        gains = [
            (bound, count - (0.0 if restarted else before.get(bound, 0.0)))
            for bound, count in sorted(after.items())
        ]
        total = gains[-1][1] if gains else 0.0
        if total <= 0:
            return None
        lower, below = 0.0, 0.0
        for bound, count in gains:
            if count >= share * total:
                if math.isinf(bound):
                    return lower
                inside = count - below
                return lower + (bound - lower) * ((share * total - below) / inside if inside else 1)
            lower, below = bound, count
        return lower


def _gain(now: float, then: float) -> float:
    """From one value of a counter to the next; one that is smaller began anew."""
    return now - then if now >= then else now
