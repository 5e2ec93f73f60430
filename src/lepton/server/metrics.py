"""Prometheus metrics, named after vLLM's where they mean the same.

https://docs.vllm.ai/en/latest/usage/metrics.html; ``lepton_`` stands where vLLM says ``vllm:``,
since colons are reserved for recording rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from lepton.server.encoder_metrics import EncoderCollector
from lepton.server.key_metrics import KeyMetrics

if TYPE_CHECKING:
    from lepton.engine import (
        AsyncEncoder,
        AsyncEngine,
        EngineStats,
        RequestTimings,
        SamplingParams,
    )

CONTENT_TYPE = CONTENT_TYPE_LATEST

_FIRST_TOKEN = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BETWEEN_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_WHOLE_REQUEST = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKENS = tuple(float(2**power) for power in range(18))
_COMPLETIONS = (1, 2, 4, 8, 16, 32, 64, 128)
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})

_VLLM_REASONS = {"cancelled": "abort"}

_HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    "time_to_first_token_seconds": (
        "From the arrival of a request to its first token",
        _FIRST_TOKEN,
    ),
    "inter_token_latency_seconds": (
        "Between two steps of the engine that gave a completion tokens",
        _BETWEEN_TOKENS,
    ),
    "request_time_per_output_token_seconds": (
        "Mean time between the tokens of a completion",
        _BETWEEN_TOKENS,
    ),
    "e2e_request_latency_seconds": (
        "From the arrival of a request to its last token",
        _WHOLE_REQUEST,
    ),
    "request_queue_time_seconds": ("Time a request waited for its first step", _WHOLE_REQUEST),
    "request_prefill_time_seconds": (
        "From a request's first step to its first token",
        _FIRST_TOKEN,
    ),
    "request_decode_time_seconds": ("From a request's first token to its last", _WHOLE_REQUEST),
    "request_inference_time_seconds": ("From a request's first step to its end", _WHOLE_REQUEST),
    "request_prompt_tokens": ("Prompt tokens of a request", _TOKENS),
    "request_generation_tokens": ("Completion tokens of a request", _TOKENS),
    "request_params_max_tokens": ("Most completion tokens that a request asked for", _TOKENS),
    "request_params_n": ("Completions that a request asked for", _COMPLETIONS),
}


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._model_name = ""
        self._key_registry = CollectorRegistry()
        self.keys = KeyMetrics(self._key_registry)
        self._families = {
            name: Histogram(
                f"lepton_{name}",
                documentation,
                ["model_name"],
                buckets=buckets,
                registry=self._registry,
            )
            for name, (documentation, buckets) in _HISTOGRAMS.items()
        }
        self._histograms: dict[str, Histogram] = {}
        self._completions = Counter(
            "lepton_request_success",
            "Completions by the reason for their end",
            ["model_name", "finished_reason"],
            registry=self._registry,
        )
        self._refused = Counter(
            "lepton_requests_refused",
            "API requests answered with an error before they had a token, by its code",
            ["code"],
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

    def attach(self, engine: AsyncEngine, model_name: str) -> None:
        """Show the engine's own figures too, and name the model in all of them."""
        self._model_name = model_name
        self._histograms = {
            name: family.labels(model_name) for name, family in self._families.items()
        }
        self._registry.register(_EngineCollector(engine, model_name))

    def attach_encoders(self, encoders: Mapping[str, AsyncEncoder]) -> None:
        """Show the encoders' own figures too."""
        self._registry.register(EncoderCollector(encoders))

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request; ``route`` is the pattern, never the path a client chose."""
        known = method if method in _METHODS else "other"
        self._http_requests.labels(known, route, str(status)).inc()
        self._http_seconds.labels(route).observe(seconds)

    def refused(self, code: str) -> None:
        """Count a request that was answered with an error before it had a token."""
        self._refused.labels(code).inc()

    def request_started(self, params: SamplingParams) -> None:
        """Observe what a request asks for."""
        if params.max_tokens is not None:
            self._observe("request_params_max_tokens", params.max_tokens)
        self._observe("request_params_n", params.n)

    def first_token(self, seconds: float) -> None:
        """Observe the time to the first token of a request."""
        self._observe("time_to_first_token_seconds", seconds)

    def next_tokens(self, seconds: float) -> None:
        """Observe that a step gave a completion tokens, ``seconds`` after the one before."""
        self._observe("inter_token_latency_seconds", seconds)

    def mean_gap(self, seconds: float) -> None:
        """Observe the mean time between the tokens of a completion."""
        self._observe("request_time_per_output_token_seconds", seconds)

    def finished(self, reason: str) -> None:
        """Count a completion, whole or not."""
        self._completions.labels(self._model_name, _VLLM_REASONS.get(reason, reason)).inc()

    def request_done(self, prompt_tokens: int, completion_tokens: int, seconds: float) -> None:
        """Observe the size and duration of a request."""
        self._observe("request_prompt_tokens", prompt_tokens)
        self._observe("request_generation_tokens", completion_tokens)
        self._observe("e2e_request_latency_seconds", seconds)

    def stages(self, timings: RequestTimings) -> None:
        """Observe how long one prompt and its completions spent in each stage."""
        arrived, scheduled = timings.arrived, timings.scheduled
        first, finished = timings.first_token, timings.finished
        self._observe("request_queue_time_seconds", (scheduled or finished) - arrived)
        if scheduled is not None:
            self._observe("request_inference_time_seconds", finished - scheduled)
        if scheduled is not None and first is not None:
            self._observe("request_prefill_time_seconds", first - scheduled)
            self._observe("request_decode_time_seconds", finished - first)

    def exposition(self, *, by_key: bool = True) -> bytes:
        """All metrics in Prometheus' text format, those by API key if asked for."""
        keys = generate_latest(self._key_registry) if by_key else b""
        return generate_latest(self._registry) + keys

    def _observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)


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
        ("lepton_kv_cache_usage_perc", "Share of the KV cache in use; 1 is all of it", usage),
        ("lepton_kv_cache_bytes", "Memory reserved for the KV cache", stats.cache_bytes),
        (
            "lepton_kv_cache_cached_blocks",
            "Free blocks that may be found again",
            stats.cached_blocks,
        ),
        ("lepton_kv_cache_spilled_blocks", "Blocks kept on disk", stats.spilled_blocks),
        ("lepton_last_step_seconds", "Duration of the last step", stats.last_step_seconds),
        ("lepton_prefill_budget_tokens", "Prompt tokens for the next step", stats.prefill_budget),
        (
            "lepton_failures_in_row",
            "Requests that failed in the engine since one was last given a token",
            stats.failures_in_row,
        ),
        (
            "lepton_oldest_wait_seconds",
            "Age of the oldest request that has not been admitted yet",
            stats.oldest_wait_seconds,
        ),
        (
            "lepton_estimated_wait_seconds",
            "How long a new request would probably wait",
            stats.estimated_wait_seconds,
        ),
    ]


def _counters(stats: EngineStats) -> list[tuple[str, str, float]]:
    return [
        ("lepton_prompt_tokens", "Prompt tokens read", stats.prompt_tokens_total),
        ("lepton_generation_tokens", "Tokens generated", stats.generation_tokens_total),
        ("lepton_prefix_cache_queries", "Prompt tokens looked up", stats.cache_queries_total),
        ("lepton_prefix_cache_hits", "Prompt tokens found in cache", stats.cached_tokens_total),
        ("lepton_prefix_cache_evictions", "Cached blocks overwritten", stats.cache_evictions_total),
        ("lepton_kv_cache_spill_hits", "Blocks copied back from disk", stats.spill_hits_total),
        ("lepton_spec_decode_num_drafts", "Drafts verified", stats.drafts_total),
        ("lepton_spec_decode_num_draft_tokens", "Tokens drafted", stats.draft_tokens_total),
        (
            "lepton_spec_decode_num_accepted_tokens",
            "Drafted and right",
            stats.accepted_tokens_total,
        ),
        ("lepton_num_preemptions", "Completions put back into waiting", stats.preemptions_total),
        ("lepton_request_timeouts", "Requests whose time was up", stats.timeouts_total),
        ("lepton_engine_steps", "Steps of the engine", stats.steps),
        ("lepton_engine_failed_steps", "Steps that failed", stats.failed_steps_total),
        ("lepton_engine_restarts", "Times the step loop was begun anew", stats.restarts_total),
    ]
