"""The commands ``encoders`` and ``retrieval``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.encoders.report import report
from bench.encoders.retrieval import measure_retrieval
from bench.encoders.suite import MODELS, measure_encoders
from bench.encoders.texts import WORKLOADS, workloads
from bench.encoders.together import measure_together
from bench.machine import same_machine
from lepton.files import replaced

RESULTS = Path("docs/encoders/results.json")


def add_commands(commands: Any) -> None:
    """Add the arguments of both."""
    encoders = commands.add_parser("encoders", help="encoders: speed and fidelity beside peers")
    encoders.add_argument("--models", default=",".join(MODELS))
    encoders.add_argument("--workloads", default=",".join(WORKLOADS))
    encoders.add_argument("--rounds", type=int, default=3)
    encoders.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help=f"JSON file to add to ({RESULTS}); the tables go into measured.md beside it",
    )
    encoders.add_argument(
        "--together",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also measure embeddings beside generation in one server",
    )
    commands.add_parser("retrieval", help="the Debian FAQ across languages: recall and MRR")


def run_encoders(arguments: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Measure, keep the results and write the tables."""
    file = arguments.results
    known = json.loads(file.read_text()) if file.exists() else {"machine": {}, "models": {}}
    known["machine"] = same_machine(known["machine"], file)
    named = [each for each in workloads() if each.name in arguments.workloads.split(",")]
    for model in arguments.models.split(",") if arguments.models else ():
        threads = known["machine"]["threads"]
        for name, cells in measure_encoders(model, named, arguments.rounds, threads, tell):
            known["models"].setdefault(model, {})[name] = cells
            _save(known, file)
    if arguments.together:
        known["together"] = asdict(measure_together(arguments.rounds, tell))
        _save(known, file)
    file.with_name("measured.md").write_text(report(known))


def _save(results: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as part:
        part.write_text(json.dumps(results, indent=1) + "\n")


def run_retrieval(tell: Callable[[str], object]) -> None:
    """Print recall and mean reciprocal rank in both directions."""
    for line in measure_retrieval():
        tell(line)
