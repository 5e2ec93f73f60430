"""The workloads of serving, each measured on a running server by `bench.serving.client`."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from bench.serving.client import Call, Reply, Report, run_calls
from bench.serving.servers import Server

PATH = "/v1/completions"
PROMPT_TOKENS = 250
COMPLETION_TOKENS = 128
RECOVERY_SECONDS = 2.0
SLO_FIRST_TOKEN_SECONDS, SLO_GAP_SECONDS, SLO_SHARE = 2.0, 0.2, 0.95
_SLO_FACTOR = 1.6
"""Between the rates of two trials until one was enough and one was not."""

Prompts = Sequence[list[int]]
Figures = dict[str, float]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that this share of them does not exceed; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(
    server: Server, calls: Sequence[Call], enough: Callable[[Reply], bool] | None = None
) -> Report:
    """Make the calls on a server that rests before and after, see `run_calls`."""
    server.wake()
    try:
        return run_calls(server.port, PATH, calls, enough)
    finally:
        server.rest()


def closed(server: Server, prompts: Prompts) -> tuple[Figures, Report]:
    """All prompts at once."""
    before = server.processor_seconds()
    report = run(server, [Call(server.completion(each, COMPLETION_TOKENS)) for each in prompts])
    return {
        "tokens_per_second": report.tokens_per_second,
        "seconds": report.seconds,
        "client_seconds": report.client_seconds,
        "server_seconds": server.processor_seconds() - before,
        **_quality(report),
    }, report


def poisson(server: Server, prompts: Prompts, rate: float) -> tuple[Figures, Report]:
    """The prompts one after another as a Poisson process of ``rate`` arrivals a second."""
    times = islice(_times(rate), len(prompts))
    report = run(server, _calls(server, prompts, times))
    return {
        "rate": rate,
        "offered": float(len(prompts)),
        "tokens_per_second": report.tokens_per_second,
        **_quality(report),
    }, report


def _times(rate: float, seconds: float = math.inf, seed: int = 0) -> Iterator[float]:
    """When a Poisson process of ``rate`` arrivals a second has one, for so many seconds."""
    clock = random.Random(seed)
    at = clock.expovariate(rate)
    while at < seconds:
        yield at
        at += clock.expovariate(rate)


def _calls(server: Server, prompts: Prompts, times: Iterable[float]) -> list[Call]:
    """A completion at each of the times, the prompts in turn."""
    return [
        Call(server.completion(prompt, COMPLETION_TOKENS), at)
        for prompt, at in zip(cycle(prompts), times, strict=False)
    ]


@dataclass(frozen=True)
class Trial:
    """One rate, and the share of requests that it served well."""

    rate: float
    good: float


def highest_rate(
    server: Server, prompts: Prompts, first: float, trials: int, seconds: float
) -> list[Trial]:
    """Look for the highest Poisson rate that serves enough requests well, by bisection.

    The trials, in the order in which they were made; the best is the highest rate that was enough.
    In each, requests arrive for so many seconds, so that a queue shows that grows.
    """
    low, high, rate = 0.0, 0.0, first
    made = []
    for number in range(trials):
        calls = _calls(server, prompts, _times(rate, seconds, seed=number))
        made.append(Trial(rate, share_served_well(server, calls)))
        if made[-1].good >= SLO_SHARE:
            low = rate
        else:
            high = rate
        if low and high:
            rate = math.sqrt(low * high)
        else:
            rate = rate * _SLO_FACTOR if low else rate / _SLO_FACTOR
    return made


def share_served_well(server: Server, calls: Sequence[Call]) -> float:
    """The share of requests with a first token in time and no gap too long.

    A trial ends as soon as too many have been served badly; what is missing then counts as bad.
    """
    bad = 0

    def enough(reply: Reply) -> bool:
        nonlocal bad
        bad += not _served_well(reply)
        return bad > (1 - SLO_SHARE) * len(calls)

    report = run(server, calls, enough)
    return sum(map(_served_well, report.replies)) / len(calls)


def _served_well(reply: Reply) -> bool:
    return (
        reply.complete
        and reply.first_token_seconds <= SLO_FIRST_TOKEN_SECONDS
        and max(reply.gaps, default=0.0) <= SLO_GAP_SECONDS
    )


def shared_prefix(server: Server, prefix: list[int], suffixes: Prompts) -> Figures:
    """All suffixes after one prefix at once, once it has been read; mean time to first token."""
    run(server, [Call(server.completion(prefix + suffixes[0], 1))])
    calls = [Call(server.completion(prefix + each, 16)) for each in suffixes[1:]]
    report = run(server, calls)
    return {
        "first_token_mean": statistics.mean(r.first_token_seconds for r in report.answered),
        "cached_tokens": float(sum(reply.cached_tokens for reply in report.answered)),
        "answered": float(len(report.answered)),
    }


def long_prompt(server: Server, prompts: Prompts, long: str) -> Figures:
    """A long prompt that arrives while others are being answered; the largest gap of those.

    It is a text, so that the time in which the server turns it into tokens counts.
    """
    calls = [Call(server.completion(each, 600)) for each in prompts]
    report = run(server, [*calls, Call(server.completion(long, 16), at=2.5)])
    *others, last = report.replies
    arrived = last.sent
    gaps = [
        after - before
        for reply in others
        for before, after in zip(reply.events, reply.events[1:], strict=False)
        if after > arrived and before < last.events[0]
    ]
    return {
        "largest_gap": max(gaps),
        "median_gap": statistics.median(gaps),
        "first_token_of_long": last.first_token_seconds,
        "answered": float(len(report.answered)),
    }


@dataclass(frozen=True)
class Single:
    """One completion alone: the seconds and tokens after its first token, and its text."""

    seconds: float
    tokens: int
    text: str


def single(server: Server, prompt: list[int], tokens: int) -> Single:
    """One prompt until its completion ends."""
    report = run(server, [Call(server.completion(prompt, tokens, ignore_eos=False))])
    (reply,) = report.replies
    return Single(reply.ended - reply.events[0], reply.tokens - 1, reply.text)


def speed(singles: Sequence[Single]) -> float:
    """Tokens per second of all of them."""
    return sum(each.tokens for each in singles) / sum(each.seconds for each in singles)


def overload(server: Server, prompts: Prompts, rate: float, seconds: float) -> Figures:
    """More than a server can bear, for so long; two seconds later one more request."""
    calls = _calls(server, prompts, _times(rate, seconds))
    probe = Call(server.completion(prompts[0], 1), seconds + RECOVERY_SECONDS)
    before = server.resident_memory()
    whole = run(server, [*calls, probe])
    report = replace(whole, replies=whole.replies[:-1])
    after = server.resident_memory()
    refused = [reply for reply in report.replies if reply.status == 429]
    last = whole.replies[-1]
    return {
        "rate": rate,
        "offered": float(len(calls)),
        "admitted": float(len(report.answered)),
        "refused": float(len(refused)),
        "refused_with_retry_after": float(sum(r.retry_after is not None for r in refused)),
        "otherwise_ended": float(len(calls) - len(report.answered) - len(refused)),
        "memory_growth_bytes": after - before,
        "served_afterwards": float(last.complete),
        "first_token_afterwards": last.first_token_seconds if last.complete else math.inf,
        **_quality(report),
    }


def _quality(report: Report) -> Figures:
    """How readers fared, in seconds. A gap is a silence between two events of a stream."""
    gaps = report.gaps
    firsts = [reply.first_token_seconds for reply in report.answered]
    wholes = [reply.seconds for reply in report.answered]
    return {
        "answered": float(len(report.answered)),
        "lost": float(sum(reply.status == 0 for reply in report.replies)),
        "first_token_p50": quantile(firsts, 0.5),
        "first_token_p99": quantile(firsts, 0.99),
        "gap_p50": quantile(gaps, 0.5),
        "gap_p99": quantile(gaps, 0.99),
        "gap_max": max(gaps, default=math.nan),
        "seconds_p50": quantile(wholes, 0.5),
        "seconds_p99": quantile(wholes, 0.99),
    }
