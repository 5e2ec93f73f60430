"""What is measured, and that everything which reads metrics finds them."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from pathlib import Path
from typing import Any

import httpx
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
        produced=(17.0,),
    )
    engine.script = lambda prompt, params: [
        OutputDelta("", 0, "a", (1,), produced=(13.0,)),
        OutputDelta("", 0, "b", (2,), produced=(14.0,)),
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


async def test_gaps_are_those_of_the_engine_for_each_completion(connect: Any, engine: Any) -> None:
    usage, timings = Usage(2, 6), RequestTimings(10.0, 11.0, 13.0, 17.0)
    engine.script = lambda prompt, params: [
        OutputDelta("", 0, "a", (1,), produced=(13.0,)),
        OutputDelta("", 1, "d", (1,), produced=(13.0,)),
        # Delivered together; the engine had a token after 1 s, and two more 3 s later.
        OutputDelta("", 0, "bcd", (2, 3, 4), finish_reason="stop", produced=(14.0, 17.0)),
        OutputDelta("", 1, "e", (2,), None, "length", usage, None, None, timings, (15.0,)),
    ]
    client = connect()
    body = CHAT | {"n": 2}
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    scrape = read_scrape((await client.get("/metrics")).text, 0.0)
    values = scrape.values
    assert values["lepton_inter_token_latency_seconds_count"] == 3
    assert values["lepton_inter_token_latency_seconds_sum"] == 1 + 3 + 2
    largest = scrape.buckets["lepton_inter_token_latency_seconds"]
    assert (largest[1.0], largest[2.5]) == (1, 2)
    assert values["lepton_request_time_per_output_token_seconds_count"] == 2
    assert values["lepton_request_time_per_output_token_seconds_sum"] == pytest.approx(4 / 3 + 2)


@pytest.mark.parametrize(
    ("finish_reason", "status", "counted"),
    [("error", 500, "error"), ("timeout", 429, "timeout"), ("cancelled", 503, "abort")],
)
async def test_requests_without_an_answer_are_counted(
    connect: Any, engine: Any, finish_reason: Any, status: int, counted: str
) -> None:
    timings = RequestTimings(10.0, None, None, 17.0)
    engine.script = lambda prompt, params: [
        OutputDelta("", 0, "", (), finish_reason=finish_reason),
        OutputDelta("", 1, "", (), None, finish_reason, Usage(2, 0), None, None, timings),
    ]
    client = connect()
    answer = await client.post("/v1/chat/completions", json=CHAT | {"n": 2})
    assert answer.status_code == status
    page = (await client.get("/metrics")).text
    labels = f'finished_reason="{counted}",model_name="scripted"'
    assert f"lepton_request_success_total{{{labels}}} 2.0" in page


async def test_a_refusal_that_comes_as_an_event_is_counted(connect: Any, engine: Any) -> None:
    gate = asyncio.Event()
    late = OutputDelta("", 0, "", (), finish_reason="timeout", usage=Usage(2, 0))
    engine.script = lambda prompt, params: [gate, late]
    client = connect(heartbeat_seconds=0.01)
    asyncio.get_running_loop().call_later(1, gate.set)
    answer = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    assert answer.status_code == 200
    assert "rate_limit_exceeded" in answer.text
    page = (await client.get("/metrics")).text
    assert 'lepton_requests_refused_total{code="rate_limit_exceeded"} 1.0' in page
    assert 'refused_total{code="rate_limit_exceeded",key="anonymous"} 1.0' in page


async def test_a_request_whose_client_leaves_is_counted(scripted_port: Any, engine: Any) -> None:
    engine.script = lambda prompt, params: [OutputDelta("", 0, "a", (1,)), asyncio.Event()]
    url = f"http://127.0.0.1:{scripted_port()}"
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        async with client.stream(
            "POST", "/v1/chat/completions", json=CHAT | {"stream": True}
        ) as answer:
            await anext(answer.aiter_lines())
        wanted = 'finished_reason="abort",model_name="scripted"} 1.0'
        async with asyncio.timeout(60):
            while wanted not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.02)


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
