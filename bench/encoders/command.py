"""The commands ``encoders`` and ``retrieval``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.encoders.retrieval import measure_retrieval
from bench.encoders.suite import EXACT, HALF, MODELS, measure_encoders
from bench.encoders.texts import WORKLOADS, workloads
from bench.encoders.together import Together, describe, measure_together
from lepton.files import replaced
from lepton.kernels import _native
from lepton.telemetry.machine import inspect_machine

RESULTS = Path("docs/encoders/results.json")
REPORT = Path("docs/encoders/measured.md")
_TOGETHER = "together"
"""Where the results of embeddings beside generation are kept, among those of models."""


def add_commands(commands: Any) -> None:
    """Add the arguments of both."""
    encoders = commands.add_parser("encoders", help="encoders: speed and fidelity beside peers")
    encoders.add_argument("--models", default=",".join(MODELS))
    encoders.add_argument("--workloads", default=",".join(WORKLOADS))
    encoders.add_argument("--rounds", type=int, default=3)
    encoders.add_argument("--results", type=Path, default=RESULTS)
    encoders.add_argument("--to", type=Path, default=REPORT)
    encoders.add_argument(
        "--together",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also measure embeddings beside generation in one server",
    )
    commands.add_parser("retrieval", help="the Debian FAQ across languages: recall and MRR")


def run_encoders(arguments: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Measure, keep the results and write the tables."""
    threads = inspect_machine().threads
    known = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    named = [each for each in workloads() if each.name in arguments.workloads.split(",")]
    for model in arguments.models.split(","):
        for name, cells in measure_encoders(model, named, arguments.rounds, threads, tell):
            known.setdefault(model, {})[name] = cells
            _save(known, arguments.results)
    if arguments.together:
        known[_TOGETHER] = asdict(measure_together(arguments.rounds, tell))
        _save(known, arguments.results)
    arguments.to.write_text(_report(known, arguments.rounds))


def _save(results: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as part:
        part.write_text(json.dumps(results, indent=1) + "\n")


def run_retrieval(tell: Callable[[str], object]) -> None:
    """Print recall and mean reciprocal rank in both directions."""
    for line in measure_retrieval():
        tell(line)


def _report(results: dict[str, Any], rounds: int) -> str:
    machine = inspect_machine()
    about = (
        f"Written by `python -m bench encoders`. {machine.processor} with "
        f"{_native.selected_isa()}, {machine.threads} threads; medians of {rounds} interleaved "
        'rounds, tokenization included. "cosine" is the least over all texts to the same weights '
        "in float32."
    )
    parts = ["# Encoders beside other engines", "", about]
    titles = {workload.name: workload for workload in workloads()}
    for model, tables in results.items():
        if model == _TOGETHER:
            parts += ["", "## Beside generation", "", f"{describe(Together(**tables))}."]
            continue
        parts += ["", f"## {model}"]
        for name, table in tables.items():
            workload = titles[name]
            usual = HALF if HALF in table else EXACT
            parts += ["", f"| {workload.title} | value | {usual} ÷ | cosine |"]
            parts += ["| --- | --- | --- | --- |"]
            ours = table[usual]["value"]
            ranked = sorted(table.items(), key=lambda item: item[1]["value"])
            for engine, cell in ranked if workload.latency else reversed(ranked):
                ratio = cell["value"] / ours if workload.latency else ours / cell["value"]
                parts.append(
                    f"| {engine} | {cell['value']:.2f} | {ratio:.2f} | {cell['cosine']:.5f} |"
                )
    return "\n".join(parts) + "\n"
