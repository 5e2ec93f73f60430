"""The command ``training``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path("docs/training/results.json")
REPORT = Path("docs/training/measured.md")
_NAMES = ("customer", "bbc-full", "bbc-few", "inews", "throughput")


def add_training(commands: Any) -> None:
    """Add the arguments."""
    training = commands.add_parser("training", help="what trained models reach")
    training.add_argument("claims", nargs="*", metavar="CLAIM", help=f"of {', '.join(_NAMES)}")
    training.add_argument("--results", type=Path, default=RESULTS)
    training.add_argument("--to", type=Path, default=REPORT)


def run_training(arguments: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Run what is missing of the claims, or of all, and write the table."""
    from bench.training.claims import CLAIMS
    from bench.training.throughput import measure_throughput
    from bench.training.trials import load, measure, store, table

    unknown = set(arguments.claims) - {*_NAMES}
    if unknown:
        raise SystemExit(f"no claim {min(unknown)!r}; there are: {', '.join(_NAMES)}")
    for name in arguments.claims or _NAMES:
        if name == "throughput":
            store(load(arguments.results) | {name: measure_throughput(tell)}, arguments.results)
        else:
            measure(CLAIMS[name](), arguments.results, tell)
    arguments.to.write_text(table(load(arguments.results)))
