"""Prometheus metrics of encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from lepton.engine import AsyncEncoder


class EncoderCollector(Collector):
    """Reads the encoders' counters when Prometheus asks."""

    def __init__(self, encoders: Mapping[str, AsyncEncoder]) -> None:
        self._encoders = encoders

    def collect(self) -> Iterator[Metric]:
        """Counters and the queue of every encoder."""
        inputs = CounterMetricFamily(
            "lepton_encoder_inputs", "Inputs encoded", labels=["model_name"]
        )
        tokens = CounterMetricFamily(
            "lepton_encoder_tokens", "Tokens encoded", labels=["model_name"]
        )
        steps = CounterMetricFamily(
            "lepton_encoder_steps", "Calls of the executor", labels=["model_name"]
        )
        waiting = GaugeMetricFamily(
            "lepton_encoder_waiting_tokens", "Tokens that wait", labels=["model_name"]
        )
        for name, encoder in self._encoders.items():
            inputs.add_metric([name], encoder.num_inputs_total)
            tokens.add_metric([name], encoder.num_tokens_total)
            steps.add_metric([name], encoder.num_steps)
            waiting.add_metric([name], encoder.waiting_tokens)
        yield from (inputs, tokens, steps, waiting)
