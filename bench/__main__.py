"""Lepton beside other engines on this machine.

    python -m bench all --quick              minutes: one model, llama.cpp, into build/bench/
    python -m bench all                      all that follows, hours; interrupt and resume at will
    python -m bench run                      speed and memory
    python -m bench run --models smollm2-q4_1,llama-8b-q4_k_m --peers llama.cpp --rounds 3
    python -m bench fidelity                 how far logits are from float32
    python -m bench neighbours               decoding while another process spins
    python -m bench serving                  servers over HTTP: throughput, latency, overload
    python -m bench lookup-bound             what prompt lookup could gain at most
    python -m bench encoders                 encoders: speed and fidelity beside peers
    python -m bench classify runs/intents    a trained run over HTTP, 32 clients
    python -m bench predict runs/intents     a million rows, resumed after kill -9
    python -m bench news                     300 articles to learn from, 600 to classify
    python -m bench networks                 networks of our own: numpy beside torch
    python -m bench retrieval                the Debian FAQ across languages: recall and MRR
    python -m bench training bbc-few         what trained models reach
    python -m bench report                   docs/performance.md from what was measured
    python -m bench list                     models, peers and workloads

Peers are installed into environments of their own below Lepton's cache folder on first use;
llama.cpp is compiled there (ten minutes). Values are medians of interleaved rounds. What run,
serving and training measure is written to a results file at once and not measured again; the others
measure whenever they are asked.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table as RichTable

from bench import lookup_bound
from bench.classify import add_command as add_classify
from bench.classify import run_classify
from bench.encoders.command import add_commands, run_encoders, run_retrieval
from bench.engines import contenders
from bench.fidelity import measure_fidelity
from bench.machine import same_machine, this_machine
from bench.measure import Run, describe_machine
from bench.models import MODELS, QUICK_MODELS, BenchModel
from bench.neighbours import measure_neighbours
from bench.networks import run_networks
from bench.news import run_news
from bench.predict import add_command as add_predict
from bench.predict import run_predict
from bench.report import write_report
from bench.results import Results, load
from bench.serving.report import write_report as write_serving_report
from bench.serving.suite import SERVING_WORKLOADS, Suite, load_results
from bench.tables import Table, cost_table, speed_table
from bench.training.command import add_training, run_training
from bench.workloads import QUICK, WORKLOADS

_REPORT = Path("docs/performance.md")
_RESULTS = Path("docs/performance/results.json")
_SERVING_RESULTS = Path("docs/serving/results.json")
_QUICK_REPORT = Path("build/bench/performance.md")
_QUICK_RESULTS = Path("build/bench/performance/results.json")
_QUICK_WINDOWS = 2
_ROUNDS = 5
_FIDELITY_MODELS = ("smollm2-q4_1", "smollm2-bf16", "gemma3-q4_k_m")
_NEIGHBOUR_MODELS = ("smollm2-q4_1",)

_console = Console(highlight=False)
Item = TypeVar("Item")


def main() -> None:
    """Run one of the commands."""
    # Ends the engines' processes too, which are stopped and would stay for ever.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    arguments = _parser().parse_args()
    quick = getattr(arguments, "quick", False)
    match arguments.command:
        case "serving":
            _serving(arguments)
            return
        case "encoders":
            run_encoders(arguments, _console.print)
            return
        case "classify":
            run_classify(arguments, _console.print)
            return
        case "networks":
            run_networks(_console.print)
            return
        case "predict":
            run_predict(arguments, _console.print)
            return
        case "news":
            run_news(_console.print)
            return
        case "lookup-bound":
            _print(lookup_bound.table())
            return
        case "retrieval":
            run_retrieval(_console.print)
            return
        case "training":
            run_training(arguments, _console.print)
            return
    arguments.results = arguments.results or (_QUICK_RESULTS if quick else _RESULTS)
    results = load(arguments.results)
    if arguments.command not in ("report", "list"):
        results.machine |= same_machine(results.machine, arguments.results)
    match arguments.command:
        case "all":
            _all(arguments, results)
        case "run":
            _run(arguments, results)
        case "fidelity":
            for model in _models(arguments.models or _FIDELITY_MODELS):
                _fidelity(model, results, arguments)
        case "neighbours":
            for model in _models(arguments.models or _NEIGHBOUR_MODELS):
                _neighbours(model, results, arguments)
        case "report":
            write_report(results, arguments.results, arguments.to)
            _console.print(f"wrote {arguments.to}")
        case "list":
            _list()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--results", type=Path, help=f"JSON file to add to ({_RESULTS})")
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("--models", type=_names, help="names separated by commas; see list")
    chosen.add_argument("--rounds", type=int, help=f"rounds to reach ({_ROUNDS})")
    commands = parser.add_subparsers(dest="command", required=True)
    add_commands(commands)
    add_classify(commands)
    add_predict(commands)
    commands.add_parser("lookup-bound", help="what prompt lookup could gain at most")
    commands.add_parser("news", help="300 articles to learn from, 600 to classify")
    commands.add_parser("networks", help="networks of our own: numpy beside torch")
    add_training(commands)
    for command, text in (
        ("run", "measure speed and memory"),
        ("all", "run, fidelity, neighbours and report, each as far as it is missing"),
    ):
        run = commands.add_parser(command, parents=[shared, chosen], help=text)
        run.add_argument("--peers", type=_names, help="names separated by commas, or none")
        run.add_argument("--workloads", type=_names, help="names separated by commas")
        run.add_argument("--quick", action="store_true", help="one model, llama.cpp, one round")
    for command, text in (
        ("fidelity", "measure the distance from float32"),
        ("neighbours", "measure beside a spinning process"),
    ):
        commands.add_parser(command, parents=[shared, chosen], help=text)
    serving = commands.add_parser("serving", help="measure servers over HTTP")
    serving.add_argument("--workloads", type=_names, help=f"of {', '.join(SERVING_WORKLOADS)}")
    rounds = "rounds to reach (5 of lookup, 3 of closed, 1 of others)"
    serving.add_argument("--rounds", type=int, help=rounds)
    serving.add_argument("--results", type=Path, help=f"JSON file to add to ({_SERVING_RESULTS})")
    report = commands.add_parser("report", parents=[shared], help="write the report")
    report.add_argument("--to", type=Path, default=_REPORT, help=f"Markdown file ({_REPORT})")
    commands.add_parser("list", parents=[shared], help="list models, peers and workloads")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name and name != "none"]


def _all(arguments: argparse.Namespace, results: Results) -> None:
    _run(arguments, results)
    for names, entries, measure in (
        (_FIDELITY_MODELS, results.fidelity, _fidelity),
        (_NEIGHBOUR_MODELS, results.neighbours, _neighbours),
    ):
        measured = {entry["model"] for entry in entries}
        for model in _models(QUICK_MODELS if arguments.quick else names):
            if model.title not in measured:
                measure(model, results, arguments)
    report = _QUICK_REPORT if arguments.quick else _REPORT
    write_report(results, arguments.results, report)
    _console.print(f"wrote {report}")


def _run(arguments: argparse.Namespace, results: Results) -> None:
    quick = arguments.quick
    rounds = arguments.rounds or (1 if quick else _ROUNDS)
    available = contenders(results.machine)
    groups = {contender.group for contender in available} - {"lepton"}
    peers = arguments.peers
    if peers is None:
        peers = ["llama.cpp"] if quick else groups
    _check(peers, dict.fromkeys(groups))
    models = _models(arguments.models or (QUICK_MODELS if quick else tuple(MODELS)))
    workloads = _chosen(arguments.workloads or (QUICK if quick else tuple(WORKLOADS)), WORKLOADS)
    describe_machine(results)
    run = Run(results, arguments.results, _console.print)
    ready = run.prepare([each for each in available if each.group in ("lepton", *peers)])
    for model in models:
        run.measure(model, workloads, ready, rounds)
        _print(speed_table(results, model.name))
    _print(cost_table(results))


def _fidelity(model: BenchModel, results: Results, arguments: argparse.Namespace) -> None:
    windows = _QUICK_WINDOWS if getattr(arguments, "quick", False) else None
    found = measure_fidelity(model.title, model.obtain(), _console.print, windows)
    results.fidelity = _merged(results.fidelity, [asdict(each) for each in found], model)
    results.save(arguments.results)
    for each in found:
        _console.print(each)


def _neighbours(model: BenchModel, results: Results, arguments: argparse.Namespace) -> None:
    found = measure_neighbours(model.title, model.obtain(), arguments.rounds or 5, _console.print)
    results.neighbours = _merged(results.neighbours, [asdict(each) for each in found], model)
    results.save(arguments.results)
    for each in found:
        _console.print(each)


def _serving(arguments: argparse.Namespace) -> None:
    names = arguments.workloads or list(SERVING_WORKLOADS)
    _check(names, SERVING_WORKLOADS)
    file = arguments.results or _SERVING_RESULTS
    results = load_results(file)
    suite = Suite(results, file, _console.print)
    try:
        for name in names:
            for number in range(1, (arguments.rounds or SERVING_WORKLOADS[name]) + 1):
                suite.measure(name, number)
    finally:
        suite.close()
    report = file.with_name("measured.md")
    write_serving_report(results, report)
    _console.print(f"wrote {report}")


def _merged(
    old: list[dict[str, object]], new: list[dict[str, object]], model: BenchModel
) -> list[dict[str, object]]:
    """The entries of other models, and the new ones."""
    return [entry for entry in old if entry["model"] != model.title] + new


def _models(names: Sequence[str]) -> list[BenchModel]:
    return _chosen(names, MODELS)


def _chosen(names: Sequence[str], known: Mapping[str, Item]) -> list[Item]:
    _check(names, known)
    return [known[name] for name in names]


def _check(names: Sequence[str], known: Mapping[str, object]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")


def _print(table: Table) -> None:
    if not table.rows:
        return
    shown = RichTable(title=table.title)
    for number, header in enumerate(table.headers):
        shown.add_column(header, justify="left" if number < table.word_columns else "right")
    for row in table.rows:
        shown.add_row(*row)
    _console.print(shown)


def _list() -> None:
    _print(Table("models", ("name", "file"), tuple((m.name, m.origin) for m in MODELS.values()), 2))
    engines = ((c.group, c.engine.name, c.engine.description) for c in contenders(this_machine()))
    _print(Table("engines", ("chosen by", "engine", "settings"), tuple(engines), 3))
    workloads = ((w.name, w.title, w.unit) for w in WORKLOADS.values())
    _print(Table("workloads", ("name", "what", "unit"), tuple(workloads), 3))


if __name__ == "__main__":
    main()
