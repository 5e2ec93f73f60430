"""docs/serving/measured.md: the tables of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.serving.suite import ServingResults
from bench.serving.targets import targets

_INTRODUCTION = """# Serving, measured

Made by `python -m bench serving` from [results.json](results.json): SmolLM2-135M on {processor}
with {instruction_set}, {threads} threads. Prompts are distinct news articles cut to 250 tokens,
128 tokens are generated (`ignore_eos`), greedily; speculation and prefix cache are off unless a row
says otherwise. Lepton has the Q4_1 file, llama-server Q4_0, its fastest, with 16 slots and its
prompt cache off; OpenVINO GenAI has no server of its own and runs in process, prefix cache off.
Engines take turns, those that wait are stopped. A *gap* is a silence between two events of a
stream: where steps are short, an event carries several tokens. Every server has answered 16 streams
before. Medians of the rounds, seconds unless a unit is given.
"""
_TITLES = {
    "closed": "16 streams at once",
    "poisson": "64 streams arriving as a Poisson process at 80 % of capacity",
    "slo": "Highest Poisson rate at which 95 % see a token in 2 s and no gap above 200 ms",
    "prefix": "16 requests that share a prefix of 1,000 tokens, warm",
    "long_prompt": "A prompt of 6,000 tokens among 8 decoding streams",
    "lookup": "Prompt lookup on and off, one stream",
    "overload": "Ten times the capacity for 60 s",
}
_NOTES = {
    "overload": "Served with few places and little patience (`--max-sequences 4 --cache-memory "
    "512M --max-queue-seconds 0.3`), without prefix cache and speculation.",
}


def write_report(results: ServingResults, path: Path) -> None:
    """Write the page."""
    parts = [_INTRODUCTION.format(**results.machine)]
    if lines := targets(results):
        rows = [("", "measured", "aim"), ("---", "---", "---"), *lines]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        parts.append(f"## In short\n\n{table}\n")
    for workload, title in _TITLES.items():
        table = _table(results, workload)
        if table:
            note = f"{_NOTES[workload]}\n\n" if workload in _NOTES else ""
            parts.append(f"## {title}\n\n{note}{table}\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts))


def _table(results: ServingResults, workload: str) -> str:
    engines = list(dict.fromkeys(s["engine"] for s in results.samples if s["workload"] == workload))
    medians = {engine: _medians(results.figures(workload, engine)) for engine in engines}
    names = [
        name
        for name in dict.fromkeys(name for figures in medians.values() for name in figures)
        if not name.startswith("good_at_")
    ]
    if not names:
        return ""
    rounds = {engine: len(results.figures(workload, engine)) for engine in engines}
    rows = [
        ["", "rounds", *(name.replace("_", " ") for name in names)],
        ["---"] * (len(names) + 2),
        *(
            [engine, str(rounds[engine]), *(_shown(medians[engine].get(name)) for name in names)]
            for engine in engines
        ),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {
        name: statistics.median(figures[name] for figures in rounds if name in figures)
        for name in names
    }


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3f}"
