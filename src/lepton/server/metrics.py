"""Prometheus metrics, named after vLLM's where they mean the same.

https://docs.vllm.ai/en/latest/usage/metrics.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from lepton.engine import AsyncEngine, EngineStats

CONTENT_TYPE = CONTENT_TYPE_LATEST

_FIRST_TOKEN = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BETWEEN_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_WHOLE_REQUEST = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKENS = tuple(float(2**power) for power in range(18))
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, engine: AsyncEngine, model_name: str) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(engine, model_name))
        self._first_token = self._histogram(
            "time_to_first_token_seconds",
            "From the arrival of a request to its first token",
            _FIRST_TOKEN,
            model_name,
        )
        self._between_tokens = self._histogram(
            "inter_token_latency_seconds",
            "Between two tokens of a completion",
            _BETWEEN_TOKENS,
            model_name,
        )
        self._whole_request = self._histogram(
            "e2e_request_latency_seconds",
            "From the arrival of a request to its last token",
            _WHOLE_REQUEST,
            model_name,
        )
        self._prompt_tokens = self._histogram(
            "request_prompt_tokens", "Prompt tokens of a request", _TOKENS, model_name
        )
        self._generation_tokens = self._histogram(
            "request_generation_tokens", "Completion tokens of a request", _TOKENS, model_name
        )
        self._model_name = model_name
        self._completions = Counter(
            "lepton_request_success",
            "Completions by the reason for their end",
            ["model_name", "finished_reason"],
            registry=self._registry,
        )
        self._http_requests = Counter(
            "lepton_http_requests",
            "HTTP requests by route and status",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._http_seconds = Histogram(
            "lepton_http_request_duration_seconds",
            "Duration of HTTP requests, streams included",
            ["route"],
            buckets=_WHOLE_REQUEST,
            registry=self._registry,
        )

    def _histogram(
        self, name: str, documentation: str, buckets: tuple[float, ...], model_name: str
    ) -> Histogram:
        family = Histogram(
            f"lepton_{name}",
            documentation,
            ["model_name"],
            buckets=buckets,
            registry=self._registry,
        )
        return family.labels(model_name)

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request; ``route`` is the pattern, never the path a client chose."""
        known = method if method in _METHODS else "other"
        self._http_requests.labels(known, route, str(status)).inc()
        self._http_seconds.labels(route).observe(seconds)

    def first_token(self, seconds: float) -> None:
        """Observe the time to the first token of a request."""
        self._first_token.observe(seconds)

    def next_tokens(self, count: int, seconds: float) -> None:
        """Observe ``count`` tokens that came together, ``seconds`` after those before them."""
        for _ in range(count):
            self._between_tokens.observe(seconds / count)

    def finished(self, reason: str) -> None:
        """Count a completion."""
        self._completions.labels(self._model_name, reason).inc()

    def request_done(self, prompt_tokens: int, completion_tokens: int, seconds: float) -> None:
        """Observe the size and duration of a request."""
        self._prompt_tokens.observe(prompt_tokens)
        self._generation_tokens.observe(completion_tokens)
        self._whole_request.observe(seconds)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """Reads the engine's statistics when Prometheus asks."""

    def __init__(self, engine: AsyncEngine, model_name: str) -> None:
        self._engine = engine
        self._model_name = model_name

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        stats = self._engine.stats()
        for name, help_text, value in _gauges(stats):
            gauge = GaugeMetricFamily(name, help_text, labels=["model_name"])
            gauge.add_metric([self._model_name], value)
            yield gauge
        for name, help_text, value in _counters(stats):
            counter = CounterMetricFamily(name, help_text, labels=["model_name"])
            counter.add_metric([self._model_name], value)
            yield counter
        tick = GaugeMetricFamily(
            "lepton_engine_seconds_since_tick", "Since the engine's loop last went round"
        )
        tick.add_metric([], self._engine.seconds_since_tick())
        yield tick


def _gauges(stats: EngineStats) -> list[tuple[str, str, float]]:
    usage = stats.used_blocks / stats.total_blocks if stats.total_blocks else 0.0
    return [
        ("lepton_num_requests_running", "Completions being computed", stats.running),
        ("lepton_num_requests_waiting", "Completions waiting for their turn", stats.waiting),
        ("lepton_kv_cache_usage_ratio", "Share of the KV cache in use, 0 to 1", usage),
        ("lepton_kv_cache_bytes", "Memory reserved for the KV cache", stats.cache_bytes),
        ("lepton_last_step_seconds", "Duration of the last step", stats.last_step_seconds),
    ]


def _counters(stats: EngineStats) -> list[tuple[str, str, float]]:
    return [
        ("lepton_prompt_tokens", "Prompt tokens read", stats.prompt_tokens_total),
        ("lepton_generation_tokens", "Tokens generated", stats.generation_tokens_total),
        ("lepton_prefix_cache_hits", "Prompt tokens found in cache", stats.cached_tokens_total),
        ("lepton_num_preemptions", "Completions put back into waiting", stats.preemptions_total),
        ("lepton_engine_steps", "Steps of the engine", stats.steps),
    ]
