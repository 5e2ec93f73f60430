"""What was measured, as the ratios that serving is judged by."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.serving.questions import FREE_CHAT
from bench.serving.suite import PRECISIONS, ServingResults, lookup_name

_FREE_CHAT = {lookup_name(FREE_CHAT, precision) for precision in PRECISIONS}
Line = tuple[str, str, str]
"""What is compared, what it is, and what it should be."""


def targets(results: ServingResults) -> list[Line]:
    """A line for each ratio that the results have figures for."""
    return [line for precision in PRECISIONS for line in _of(results, precision)] + list(
        _of_default(results)
    )


def _of(results: ServingResults, precision: str) -> Iterator[Line]:
    engine = f"lepton {precision}"
    speed = _median(results, "closed", engine, "tokens_per_second")
    for peer, least in (("llama-server", 2.6), ("openvino, in process", 1.7)):
        yield from _ratio(
            f"{engine}, 16 streams: tokens/s / those of {peer}",
            speed,
            _median(results, "closed", peer, "tokens_per_second"),
            f"≥ {least}",
        )
    yield from _ratio(
        f"{engine}: HTTP, the client's processor time subtracted, of in process",
        _without_client(results, engine),
        _median(results, "closed", f"{engine}, in process", "tokens_per_second"),
        "≥ 0.9",
    )
    gap = _median(results, "poisson", engine, "gap_ratio")
    if gap is not None:
        yield f"{engine}, Poisson at 80 %: p99 gap / median gap", f"{gap:.2f}", "≤ 5"
    lost = [f["offered"] - f["answered"] for f in results.figures("poisson", engine)]
    if lost:
        yield f"{engine}, Poisson at 80 %: requests lost", f"{max(lost):.0f}", "0"
    title = f"{engine}: highest Poisson rate served well"
    rate, other = (_median(results, "slo", each, "rate") for each in (engine, "llama-server"))
    if rate is not None and other == 0:
        yield f"{title}, requests/s; llama-server served none well", f"{rate:.2f}", "≥ 2 ×"
    yield from _ratio(f"{title} × llama-server's", rate, other, "≥ 2")


def _of_default(results: ServingResults) -> Iterator[Line]:
    yield from _ratio(
        "Shared prefix: time to first token, cache on / off",
        _median(results, "prefix", "lepton exact, cache on", "first_token_mean"),
        _median(results, "prefix", "lepton exact, cache off", "first_token_mean"),
        "≤ 0.2",
    )
    for kind in dict.fromkeys(s["engine"] for s in results.samples if s["workload"] == "lookup"):
        least = 0.97 if kind in _FREE_CHAT else 1.5
        ratio = _median(results, "lookup", kind, "ratio")
        yield f"Prompt lookup on / off, {kind}: tokens/s", f"{ratio:.2f}", f"≥ {least}"
    gap = _median(results, "long_prompt", "lepton exact", "largest_gap")
    if gap is not None:
        yield "A long prompt among 8 streams: largest gap, s", f"{gap:.3f}", "≤ 0.15"
    for name in ("first_token_p99", "gap_p99", "seconds_p99"):
        ratio = _median(results, "overload", "lepton exact", f"{name}_ratio")
        if ratio is not None:
            shown = name.replace("_", " ")
            yield f"10 × overload: {shown} / that at 80 % load", f"{ratio:.2f}", "≤ 1.25"
    yield from _of_overload(results)


def _of_overload(results: ServingResults) -> Iterator[Line]:
    """What becomes of the requests that are too many, and of the server; the worst of all runs."""
    runs = results.figures("overload", "lepton exact")
    if not runs:
        return
    told = min(f["refused_with_retry_after"] / max(1.0, f["offered"] - f["admitted"]) for f in runs)
    yield "10 × overload: not admitted and told when to retry", f"{told:.1%}", "100.0%"
    grown = max(f["memory_growth_bytes"] for f in runs)
    yield "10 × overload: growth of memory, MiB", f"{grown / 2**20:.0f}", "flat"
    first = max(f["first_token_afterwards"] for f in runs)
    yield "Two seconds after it: time to first token, s", f"{first:.2f}", "served"


def _ratio(title: str, one: float | None, other: float | None, goal: str) -> Iterator[Line]:
    if one is not None and other:
        yield title, f"{one / other:.2f}", goal


def _without_client(results: ServingResults, engine: str) -> float | None:
    """Tokens per second had the client run elsewhere, its time shared by all processors."""
    threads = results.machine.get("threads", 1)
    speeds = [
        figures["tokens_per_second"]
        * figures["seconds"]
        / (figures["seconds"] - figures["client_seconds"] / threads)
        for figures in results.figures("closed", engine)
    ]
    return statistics.median(speeds) if speeds else None


def _median(results: ServingResults, workload: str, engine: str, name: str) -> float | None:
    values = [f[name] for f in results.figures(workload, engine) if name in f]
    return statistics.median(values) if values else None
