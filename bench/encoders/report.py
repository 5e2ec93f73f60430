"""docs/encoders/measured.md: the tables of what was measured."""

from __future__ import annotations

from typing import Any

from bench.encoders.suite import HALF, INT8, WORDS
from bench.encoders.texts import Workload, workloads
from bench.encoders.together import Together, describe

_INTRODUCTION = """# Encoders beside other engines

Made by `python -m bench encoders` on {processor} with {instruction_set}, {threads} threads. Medians
of interleaved rounds, tokenization included. "cosine" is the least over all texts to the same
weights in float32. The columns with ÷ tell how many times as fast Lepton is as the engine of the
row.
"""


def report(results: dict[str, Any]) -> str:
    """The page, from all that the results hold."""
    parts = [_INTRODUCTION.format(**results["machine"])]
    known = {workload.name: workload for workload in workloads()}
    for model, tables in results["models"].items():
        parts.append(f"## {model}\n")
        parts += [_table(known[name], cells) for name, cells in tables.items()]
    if "together" in results:
        sentence = describe(Together(**results["together"]))
        parts.append(f"## Beside generation\n\n{sentence}.\n")
    return "\n".join(parts)


def _table(workload: Workload, cells: dict[str, dict[str, float]]) -> str:
    """Engines, the fastest first."""
    ours = [name for name in (HALF, WORDS, INT8) if name in cells]
    headers = [workload.title, "value", *(f"{name} ÷" for name in ours), "cosine"]
    ranked = sorted(cells.items(), key=lambda item: item[1]["value"], reverse=not workload.latency)
    rows = [headers, ["---", *["---:"] * (len(headers) - 1)]]
    for engine, cell in ranked:
        ratios = [_ratio(cells[name]["value"], cell["value"], workload.latency) for name in ours]
        rows.append([engine, f"{cell['value']:.2f}", *ratios, f"{cell['cosine']:.5f}"])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _ratio(ours: float, theirs: float, latency: bool) -> str:
    return f"{theirs / ours if latency else ours / theirs:.2f}"
