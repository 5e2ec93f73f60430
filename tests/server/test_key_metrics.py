"""What each API key asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from lepton.cli import top
from lepton.security import ApiKey, hash_key
from lepton.server.key_metrics import MOST_KEYS, OTHERS, KeyMetrics
from lepton.server.record import RequestRecord
from lepton.telemetry.scrape import Interval, Scrape, read_scrape

COMPLETION = {"model": "scripted", "prompt": "hello", "max_tokens": 5}


async def test_requests_tokens_and_refusals_by_key(connect: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'[[keys]]\nname = "desk"\nsha256 = "{hash_key("secret-1")}"\nmetrics = true\n'
        f'[[keys]]\nname = "shop"\nsha256 = "{hash_key("secret-2")}"\nrequests_per_minute = 1\n'
    )
    keys.chmod(0o600)
    client = connect(keys_file=keys)
    for secret, status in (
        ("secret-1", 200),
        ("secret-1", 200),
        ("secret-2", 200),
        ("secret-2", 429),
        ("secret-3", 401),
    ):
        headers = {"Authorization": f"Bearer {secret}"}
        response = await client.post("/v1/completions", json=COMPLETION, headers=headers)
        assert response.status_code == status
    for headers in ({}, {"Authorization": "Bearer secret-2"}, {"Authorization": "Bearer no"}):
        hidden = (await client.get("/metrics", headers=headers)).text
        assert "lepton_http_requests_total" in hidden
        assert "shop" not in hidden
        assert "lepton_key_" not in hidden
    page = (await client.get("/metrics", headers={"Authorization": "Bearer secret-1"})).text
    assert "secret" not in page
    assert hash_key("secret-1") not in page
    scrape = read_scrape(page, 1.0)
    of_keys = scrape.by_key
    assert of_keys["lepton_key_requests_total"] == {"desk": 2, "shop": 2, "anonymous": 1}
    assert of_keys["lepton_key_requests_refused_total"] == {"shop": 1, "anonymous": 1}
    assert of_keys["lepton_key_prompt_tokens_total"]["desk"] == 2 * len("hello")
    shop = 'lepton_key_requests_refused_total{code="rate_limit_exceeded",key="shop"} 1.0'
    assert shop in page
    generated = scrape.values["lepton_key_generation_tokens_total"]
    assert generated == 3 * of_keys["lepton_key_generation_tokens_total"]["shop"] > 0

    shown = top.keys(Interval(Scrape({}, {}, {}, {}, taken=0.0), scrape))
    assert list(shown) == ["desk", "shop", "anonymous"]
    assert (shown["desk"]["requests_per_second"], shown["shop"]["refused_per_second"]) == (2, 1)


def test_names_are_bounded() -> None:
    registry = CollectorRegistry()
    metrics = KeyMetrics(registry)
    for number in range(MOST_KEYS + 20):
        key = ApiKey(f"key-{number}", b"")
        metrics.request(RequestRecord("r", key=key, prompt_tokens=3), None)
    requests = read_scrape(generate_latest(registry).decode(), 0.0).by_key[
        "lepton_key_requests_total"
    ]
    assert len(requests) == MOST_KEYS + 1
    assert requests[OTHERS] == 20
