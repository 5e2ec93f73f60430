"""docs/performance.md, written from a results file."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from pathlib import Path

from bench.engines import contenders
from bench.models import MODELS
from bench.plots import draw
from bench.results import Results, in_order
from bench.tables import (
    Table,
    best_format_table,
    cost_table,
    scaling_table,
    speed_table,
    types_table,
)
from bench.workloads import WORKLOADS

_INTRODUCTION = """\
# Performance

Written by `make bench` from [{results}]({results}), which holds every single measurement. Speeds
are medians of interleaved rounds, {rounds}: within a workload the engines take turns,
one process at a time, the others stopped. Loading, memory and idling may be of fewer rounds.
"""

_READING = """\
## How to read the tables

- Speeds are tokens per second, of all streams together. Under an engine of ours stands its share of
  the limit; under a peer, how many times its speed Lepton reaches, `exact` / `fast`.
- The limit is what the machine allows with these weights: weights and cache read from memory once
  a step at the measured bandwidth, or every weight multiplied once at the measured peak of the
  instruction named above, whichever takes longer. Of several readings of the machine the best
  counts; where neighbours take memory's time the same share is more than it says. Nothing is faster
  than the limit unless the weights fit into the processor's cache, or of a Q8_0 head only a part is
  read (greedy decoding of Lepton, docs/adr/0004). `exact` computes twice what the limit counts.
  Floats count by float32 instructions: where a processor multiplies bfloat16, more is possible.
- `exact` multiplies activations as two int8 planes, `fast` as one except in the head and
  where rounding would weigh most; llama.cpp as one.
- *decode* counts generated tokens only; *prefill* is a prompt that no cache holds. Long-context
  decode reads its prompt once and then continues it. *load* starts with the process's libraries
  loaded (llama.cpp: a new process) and the file in the page cache. *peak memory* counts resident
  pages, mapped files included, after 512 tokens were read.
- Machines with two sockets were not measured.
"""


_REASON_LENGTH = 160


def write_report(results: Results, results_file: Path, report: Path) -> None:
    """Write the report, and its pictures into a folder of the same name beside it."""
    folder = report.with_suffix("")
    pictures = draw(results, folder)
    relative = os.path.relpath(results_file, report.parent)
    parts = [
        _INTRODUCTION.format(results=relative, rounds=_rounds(results)),
        _machine(results),
        _engines(results),
        _READING,
        *(f"![{picture.stem}]({folder.name}/{picture.name})\n" for picture in pictures),
        *_speeds(results),
        _section("Threads", scaling_table(results)),
        _section("Loading, memory, idling", cost_table(results)),
        _fidelity(results),
        _neighbours(results),
        _failures(results),
        _unmeasured(results),
    ]
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n".join(part for part in parts if part))


def markdown(table: Table) -> str:
    """A table in Markdown; empty when it has no rows."""
    if not table.rows:
        return ""
    figures = len(table.headers) - table.word_columns
    rule = ["---"] * table.word_columns + ["---:"] * figures
    lines = [table.headers, rule, *table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _section(title: str, table: Table) -> str:
    return f"## {title}\n\n{markdown(table)}" if table.rows else ""


def _machine(results: Results) -> str:
    machine = results.machine
    if not machine:
        return ""
    facts = [machine["processor"], f"{machine['threads']} threads", machine["system"]]
    lines = [
        f"{', '.join(facts)}, {machine['date']}. Measured limits:\n",
        "| threads | memory, GB/s (median, least reading) | integer, GOPS | float32, GFLOPS |",
        "| --- | ---: | ---: | ---: |",
    ]
    instruction = ""
    for threads in sorted({limits.threads for limits in results.limits}):
        best = results.best_limits(threads)
        assert best is not None
        readings = [each.bytes_per_second for each in results.limits if each.threads == threads]
        figures = (best.integer_operations_per_second, best.float_operations_per_second)
        cells = " | ".join(f"{figure / 1e9:,.1f}" for figure in figures)
        usual, least = statistics.median(readings) / 1e9, min(readings) / 1e9
        memory = f"{best.bytes_per_second / 1e9:,.1f} ({usual:,.1f}, {least:,.1f})"
        lines.append(f"| {threads} | {memory} | {cells} |")
        instruction = f"Integer peak by {best.integer_instruction}, float by "
        instruction += f"{best.float_instruction}."
    return "\n".join([*lines, "", instruction, ""])


def _engines(results: Results) -> str:
    rows = tuple(
        (note.name, note.version, str(note.threads), note.description)
        for note in results.engines.values()
    )
    return _section("Engines", Table("", ("engine", "version", "threads", "settings"), rows, 4))


def _speeds(results: Results) -> Iterable[str]:
    measured = in_order({sample.model for sample in results.samples}, MODELS)
    for family in dict.fromkeys(MODELS[model].family for model in measured):
        models = [model for model in measured if MODELS[model].family == family]
        for model in models:
            if not MODELS[model].sweep:
                table = speed_table(results, model)
                yield _section(table.title, table)
                yield f"File: {MODELS[model].origin}.\n"
        if any(MODELS[model].sweep for model in models):
            yield _section(f"{family}, random weights of every type", types_table(results, family))
        elif len(models) > 1:
            title = f"{family}: best format of each engine"
            yield _section(title, best_format_table(results, family, "llama.cpp"))


def _rounds(results: Results) -> str:
    """How many rounds speeds are medians of."""
    speeds = {
        (each.model, each.workload, each.engine)
        for each in results.samples
        if WORKLOADS[each.workload].more_is_better
    }
    counts = {results.measured(*each) for each in speeds} or {0}
    least, most = min(counts), max(counts)
    return f"{least} of each" if least == most else f"{least} to {most} of each"


def _fidelity(results: Results) -> str:
    headers = ("model", "engine", "tokens", "equal argmax", "mean KL", "perplexity", "float32")
    rows = tuple(
        (
            entry["model"],
            entry["engine"],
            f"{entry['tokens']:,}",
            f"{entry['agreement']:.4f}",
            f"{entry['divergence']:.1e}",
            f"{entry['perplexity']:.3f} ({entry['perplexity'] / entry['reference'] - 1:+.2%})",
            f"{entry['reference']:.3f}",
        )
        for entry in results.fidelity
    )
    text = _section("Fidelity", Table("", headers, rows, 2))
    return text and text + (
        "\nAgainst float32 of the dequantized weights; the text is docs/data.md in English and "
        "Chinese, CONTRIBUTING.md and a source file: `python -m bench fidelity`.\n"
    )


def _neighbours(results: Results) -> str:
    headers = ("model", "engine", "quiet", "beside a spinning process", "kept", "longest stall")
    rows = tuple(
        (
            entry["model"],
            entry["engine"],
            f"{entry['quiet']:.1f}",
            f"{entry['disturbed']:.1f}",
            f"{entry['disturbed'] / entry['quiet']:.0%}",
            f"{entry['longest_stall'] * 1000:.0f} ms",
        )
        for entry in results.neighbours
    )
    text = _section("A noisy neighbour", Table("", headers, rows, 2))
    return text and text + (
        "\nOne stream of decode while another process spins on one processor: "
        "`python -m bench neighbours`.\n"
    )


def _failures(results: Results) -> str:
    rows = tuple(
        (failure.engine, failure.model, failure.workload, _one_cell(failure.reason))
        for failure in results.failures
    )
    return _section("Not measured", Table("", ("engine", "model", "workload", "reason"), rows, 4))


def _unmeasured(results: Results) -> str:
    """What `python -m bench run` would measure beside it, on the same machine."""
    if not results.machine:
        return ""
    begun = in_order({sample.model for sample in results.samples}, MODELS)
    planned, rows = contenders(results.machine), []
    for name in begun:
        model = MODELS[name]
        for contender in planned:
            engine = contender.engine.name
            titles = [
                WORKLOADS[each].title
                for each in model.workloads
                if contender.suits(model, WORKLOADS[each])
                and not results.measured(name, each, engine)
                and not results.failed(name, each, engine)
            ]
            if titles:
                rows.append((engine, model.title, "; ".join(titles)))
    others = [model.title for model in MODELS.values() if model.name not in begun]
    table = Table("", ("engine", "model", "workloads"), tuple(rows), 3)
    parts = [markdown(table), f"Models not begun: {', '.join(others)}.\n" if others else ""]
    text = "\n".join(part for part in parts if part)
    return text and f"## Of the whole plan, not measured yet\n\n{text}"


def _one_cell(text: str) -> str:
    """The beginning of a message of several lines, on one."""
    words = " ".join(text.split()).replace("|", "\\|")
    return words if len(words) <= _REASON_LENGTH else f"{words[:_REASON_LENGTH]} …"
