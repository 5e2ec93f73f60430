"""What is measured, and that everything which reads metrics finds them."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from lepton.cli import top
from lepton.engine import OutputDelta, RequestTimings, Usage
from lepton.telemetry.scrape import Interval, Scrape, read_scrape

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "lepton.json"
CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
REFUSALS = {"lepton_requests_refused_total", "lepton_key_requests_refused_total"}
NAME = re.compile(r"\b(?:lepton|process)_[a-z0-9_]+")


@pytest.fixture
async def scrape(connect: Any, engine: Any) -> Scrape:
    """The metrics after one request that waited 1 s, read for 2 s and wrote for 4 s."""
    end = OutputDelta(
        "",
        0,
        "c",
        (3,),
        finish_reason="stop",
        usage=Usage(9, 3),
        timings=RequestTimings(10.0, 11.0, 13.0, 17.0),
    )
    engine.script = lambda prompt, params: [
        OutputDelta("", 0, "a", (1,)),
        OutputDelta("", 0, "b", (2,)),
        end,
    ]
    client = connect()
    assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    return read_scrape((await client.get("/metrics")).text, 0.0)


def samples_of(scrape: Scrape) -> set[str]:
    """Names as queries write them."""
    return {*scrape.values, *(f"{name}_bucket" for name in scrape.buckets)}


def test_stages_are_measured(scrape: Scrape) -> None:
    values = scrape.values
    assert values["lepton_request_queue_time_seconds_sum"] == 1
    assert values["lepton_request_prefill_time_seconds_sum"] == 2
    assert values["lepton_request_decode_time_seconds_sum"] == 4
    assert values["lepton_request_inference_time_seconds_sum"] == 6
    assert values["lepton_request_time_per_output_token_seconds_sum"] == 2
    assert values["lepton_inter_token_latency_seconds_count"] == 2
    assert values["lepton_request_generation_tokens_sum"] == 3
    assert values["lepton_request_params_n_sum"] == 1


def test_every_metric_of_the_dashboard_exists(scrape: Scrape) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [
        each["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"
    ]
    names = {name for query in queries for name in NAME.findall(query)}
    # A counter with labels has no sample before it first counts; refusals never happened here.
    names -= REFUSALS
    assert len(names) > 25
    assert names <= samples_of(scrape)


def test_every_metric_that_top_shows_exists(scrape: Scrape) -> None:
    names = set(NAME.findall(inspect.getsource(top))) - REFUSALS
    assert len(names) > 12
    assert {name for name in names if name not in scrape.buckets} <= samples_of(scrape)


def test_top_shows_what_happened_between_two_readings(scrape: Scrape) -> None:
    later = Scrape(
        {**scrape.values, "lepton_generation_tokens_total": 108.0},
        scrape.buckets,
        scrape.labels,
        scrape.by_key,
        taken=2.0,
    )
    shown = top.figures(Interval(scrape, later))
    assert shown["generated_per_second"] == (108 - 8) / 2
    assert (shown["model"], shown["running"], shown["kv_cache_used"]) == ("scripted", 1, 0.75)
    assert shown["first_token_p50"] is None, "no request came in between"
