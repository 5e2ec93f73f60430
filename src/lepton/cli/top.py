"""``lepton top``: a running server in the terminal, from its metrics."""

from __future__ import annotations

import json
import time
from collections import deque
from itertools import islice
from typing import Annotated

import httpx
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lepton.cli.console import output, size
from lepton.cli.language import say
from lepton.errors import UnavailableError
from lepton.telemetry.scrape import Interval, Scrape, read_scrape

_TIMEOUT_SECONDS = 5.0
_HISTORY = 60
_MOST_KEYS = 8
_BLOCKS = " ▁▂▃▄▅▆▇█"


def top(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Address of the server.")
    ] = "http://127.0.0.1:8000",
    interval: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Time between two readings.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Read twice, print once, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a view, once.")
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="LEPTON_API_KEY", metavar="KEY", help="Key that may see the use of all keys."
        ),
    ] = None,
) -> None:
    """Watch a running server: streams, tokens per second, queue, cache, latency, keys."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS) as client:
        before = _read(client)
        if once or as_json or not output.is_terminal:
            time.sleep(interval)
            now = Interval(before, _read(client))
            if as_json:
                output.print_json(json.dumps({**figures(now), "keys": keys(now)}))
            else:
                output.print(view(url, now, [now.rate(_GENERATED)]))
            return
        _watch(client, url, before, interval)


def _watch(client: httpx.Client, url: str, before: Scrape, interval: float) -> None:
    speeds: deque[float] = deque(maxlen=_HISTORY)
    shown: RenderableType = Text(say("reading {url}", url=url))
    with Live(shown, console=output, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(interval)
                try:
                    after = _read(client)
                except UnavailableError as error:
                    live.update(Group(shown, Text(str(error), style="bold red")), refresh=True)
                    continue
                now = Interval(before, after)
                speeds.append(now.rate(_GENERATED))
                shown, before = view(url, now, list(speeds)), after
                live.update(shown, refresh=True)
        except KeyboardInterrupt:
            return


def _read(client: httpx.Client) -> Scrape:
    try:
        response = client.get("/metrics")
        response.raise_for_status()
    except httpx.HTTPError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnavailableError(
            say("no metrics from {url}: {reason}", url=client.base_url, reason=reason)
        ) from error
    return read_scrape(response.text, time.monotonic())


_GENERATED = "lepton_generation_tokens_total"


def figures(now: Interval) -> dict[str, float | str | None]:
    """What the view shows, by name; seconds, bytes and shares of 1."""
    return {
        "model": now.after.labels.get("model_name"),
        "running": now.now("lepton_num_requests_running"),
        "waiting": now.now("lepton_num_requests_waiting"),
        "oldest_wait_seconds": now.now("lepton_oldest_wait_seconds"),
        "estimated_wait_seconds": now.now("lepton_estimated_wait_seconds"),
        "generated_per_second": now.rate(_GENERATED),
        "prompt_tokens_per_second": now.rate("lepton_prompt_tokens_total"),
        "requests_per_second": now.rate("lepton_request_success_total"),
        "refused_per_second": now.rate("lepton_requests_refused_total"),
        "first_token_p50": now.quantile("lepton_time_to_first_token_seconds", 0.5),
        "first_token_p99": now.quantile("lepton_time_to_first_token_seconds", 0.99),
        "between_tokens_p50": now.quantile("lepton_inter_token_latency_seconds", 0.5),
        "between_tokens_p99": now.quantile("lepton_inter_token_latency_seconds", 0.99),
        "kv_cache_used": now.now("lepton_kv_cache_usage_perc"),
        "kv_cache_bytes": now.now("lepton_kv_cache_bytes"),
        "prefix_cache_hit_rate": now.share(
            "lepton_prefix_cache_hits_total", "lepton_prefix_cache_queries_total"
        ),
        "draft_acceptance": now.share(
            "lepton_spec_decode_num_accepted_tokens_total",
            "lepton_spec_decode_num_draft_tokens_total",
        ),
        "preemptions": now.now("lepton_num_preemptions_total"),
        "step_seconds": now.now("lepton_last_step_seconds"),
        "silent_seconds": now.now("lepton_engine_seconds_since_tick"),
        "processors": now.rate("process_cpu_seconds_total"),
        "resident_bytes": now.now("process_resident_memory_bytes"),
    }


def keys(now: Interval) -> dict[str, dict[str, float]]:
    """What each API key does a second, the busiest first."""
    rates = {
        "requests_per_second": now.rates_by_key("lepton_key_requests_total"),
        "refused_per_second": now.rates_by_key("lepton_key_requests_refused_total"),
        "prompt_tokens_per_second": now.rates_by_key("lepton_key_prompt_tokens_total"),
        "generated_per_second": now.rates_by_key("lepton_key_generation_tokens_total"),
    }
    requests = rates["requests_per_second"]
    return {
        key: {name: of_keys.get(key, 0.0) for name, of_keys in rates.items()}
        for key in sorted(requests, key=lambda key: (-requests[key], key))
    }


def view(url: str, now: Interval, speeds: list[float]) -> RenderableType:
    """The figures as tables, with the recent tokens per second as a line of bars."""
    found = figures(now)

    def number(name: str, form: str = "{:,.0f}") -> str:
        value = found[name]
        return form.format(value) if isinstance(value, float) else "–"

    def pair(name: str) -> str:
        values = (found[f"{name}_p50"], found[f"{name}_p99"])
        return " / ".join("–" if not isinstance(v, float) else _milliseconds(v) for v in values)

    left, right = _grid(), _grid()
    left.add_row(say("Streams"), number("running"))
    left.add_row(say("Waiting"), number("waiting"))
    left.add_row(say("Oldest wait"), number("oldest_wait_seconds", "{:.1f} s"))
    left.add_row(say("Requests/s"), number("requests_per_second", "{:,.2f}"))
    left.add_row(say("Refused/s"), number("refused_per_second", "{:,.2f}"))
    left.add_row(say("First token p50 / p99"), pair("first_token"))
    left.add_row(say("Between tokens p50 / p99"), pair("between_tokens"))
    right.add_row(say("Prompt tokens/s"), number("prompt_tokens_per_second"))
    right.add_row(say("Prefix cache hits"), number("prefix_cache_hit_rate", "{:.0%}"))
    right.add_row(say("Drafts accepted"), number("draft_acceptance", "{:.0%}"))
    right.add_row(say("Preemptions"), number("preemptions"))
    right.add_row(say("Step"), _milliseconds(now.now("lepton_last_step_seconds")))
    right.add_row(say("Processors"), number("processors", "{:.2f}"))
    right.add_row(say("Memory"), size(int(now.now("process_resident_memory_bytes"))))
    both = Table.grid(padding=(0, 4))
    both.add_row(left, right)
    speed = Table.grid(padding=(0, 2))
    speed.add_row(
        say("Tokens/s"),
        Text(number("generated_per_second"), style="bold green"),
        Text(sparkline(speeds), style="green"),
    )
    used = now.now("lepton_kv_cache_usage_perc")
    cache = Table.grid(padding=(0, 2))
    cache.add_row(
        say("Cache"),
        f"{used:.0%}",
        ProgressBar(total=1.0, completed=used, width=40),
        size(int(now.now("lepton_kv_cache_bytes"))),
    )
    title = f"{found['model'] or '–'} · {url}"
    parts = [speed, cache, Text(), both, *_key_table(keys(now))]
    return Panel(Group(*parts), title=Text(title), expand=False)


def _key_table(found: dict[str, dict[str, float]]) -> list[RenderableType]:
    """The busiest keys, where there is more than one caller to tell apart."""
    if len(found) < 2:
        return []
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(say("Key"))
    for title in ("Requests/s", "Refused/s", "Prompt tokens/s", "Tokens/s"):
        table.add_column(say(title), justify="right")
    for key, rates in islice(found.items(), _MOST_KEYS):
        table.add_row(Text(key), *(f"{rate:,.2f}" for rate in rates.values()))
    return [Text(), table]


def sparkline(values: list[float]) -> str:
    """One block for each value, as high as its share of the largest."""
    largest = max(values, default=0.0)
    if largest <= 0:
        return _BLOCKS[0] * len(values)
    steps = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round(steps * max(0.0, value) / largest)] for value in values)


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    return table


def _milliseconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
