"""Tables of medians and ratios, for the terminal and for the report alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.models import MODELS
from bench.results import Results, in_order
from bench.roofline import speed_limit
from bench.workloads import WORKLOADS, Workload

OURS = ("lepton exact", "lepton fast")
"""The two precisions that every other engine is compared with."""
_ENGINES = (
    *OURS,
    "lepton fast, int8 cache",
    "lepton fast, AVX2",
    "llama.cpp",
    "openvino",
    "vllm",
    "transformers",
)
_ONE_THREAD = {"lepton fast": "lepton fast, 1 thread", "llama.cpp": "llama.cpp, 1 thread"}
_NOT_MEASURED = "–"


@dataclass(frozen=True)
class Table:
    """A title, column headers, and rows of as many cells; figures follow on columns of words."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    word_columns: int = 1


def speed_table(results: Results, model: str) -> Table:
    """Tokens per second of every engine on one file, with Lepton's share of the limit."""
    engines = _engines_of(results, model)
    peers = [engine for engine in engines if not engine.startswith("lepton")]
    rows = []
    for workload in _workloads_of(results, model):
        if not workload.more_is_better:
            continue
        limit = _limit(results, model, workload)
        cells = [workload.title, _NOT_MEASURED if limit is None else _number(limit)]
        for engine in engines:
            value = results.median(model, workload.name, engine)
            if engine in peers:
                cells.append(_with_ratios(results, model, workload, value))
            else:
                cells.append(_with_share(value, limit))
        rows.append(tuple(cells))
    return Table(_title(model), ("workload", "limit", *engines), tuple(rows))


def cost_table(results: Results) -> Table:
    """Seconds to the first token, peak memory and idle processor time."""
    rows = []
    for model in _models(results):
        for workload in _workloads_of(results, model):
            if workload.more_is_better:
                continue
            values = [results.median(model, workload.name, name) for name in _ENGINES]
            cells = [_quantity(value, workload) for value in values]
            rows.append((_title(model), workload.title, *cells))
    return _without_empty_columns(Table("", ("model", "", *_ENGINES), tuple(rows), 2))


def best_format_table(results: Results, family: str, peer: str) -> Table:
    """Lepton's best format of a family against a peer's best, for each workload.

    Workloads that the peer was not measured on in every format are left out: what is best is open.
    """
    models = [model for model in _models(results) if MODELS[model].family == family]
    rows = []
    for workload in WORKLOADS.values():
        every = all(results.values(model, workload.name, peer) for model in models)
        if not (workload.more_is_better and every):
            continue
        theirs = _best(results, models, workload, peer)
        ours = [_best(results, models, workload, engine) for engine in OURS]
        if theirs is None or None in ours:
            continue
        cells = []
        for best in ours:
            assert best is not None
            value, label = best
            cells.append(f"{_number(value)} {label} ({value / theirs[0]:.2f} ×)")
        rows.append((workload.title, *cells, f"{_number(theirs[0])} {theirs[1]}"))
    return Table("", ("workload", *OURS, peer), tuple(rows))


def scaling_table(results: Results) -> Table:
    """One thread against all."""
    rows = []
    for model in _models(results):
        for workload in _workloads_of(results, model):
            for engine, alone in _ONE_THREAD.items():
                one = results.median(model, workload.name, alone)
                all_threads = results.median(model, workload.name, engine)
                if one is not None and all_threads is not None:
                    speeds = (_number(one), _number(all_threads), f"{all_threads / one:.2f} ×")
                    rows.append((_title(model), workload.title, engine, *speeds))
    threads = results.machine.get("threads", "all")
    headers = ("model", "workload", "engine", "1 thread", f"{threads} threads", "gain")
    return Table("", headers, tuple(rows), 3)


def types_table(results: Results, family: str) -> Table:
    """Every weight type of one shape, one row a file."""
    models = [
        model
        for model in _models(results)
        if MODELS[model].family == family and MODELS[model].sweep
    ]
    workloads = [
        workload
        for workload in WORKLOADS.values()
        if workload.more_is_better
        and all(results.median(model, workload.name, OURS[0]) is not None for model in models)
    ]
    engines = (*OURS, "llama.cpp")
    headers = [f"{workload.title}: {engine}" for workload in workloads for engine in engines]
    rows = []
    for model in models:
        cells = []
        for workload in workloads:
            limit = _limit(results, model, workload)
            for engine in engines:
                value = results.median(model, workload.name, engine)
                cells.append(
                    _with_share(value, limit)
                    if engine in OURS
                    else _with_ratios(results, model, workload, value)
                )
        rows.append((_label(model), *cells))
    return Table("", ("weights", *headers), tuple(rows))


def _best(
    results: Results, models: Sequence[str], workload: Workload, engine: str
) -> tuple[float, str] | None:
    found = [
        (value, _label(model))
        for model in models
        if (value := results.median(model, workload.name, engine)) is not None
    ]
    return max(found, default=None)


def _label(model: str) -> str:
    """The weight type, which ends the name of a model."""
    return model.rsplit("-", 1)[-1].upper()


def _models(results: Results) -> list[str]:
    return in_order((sample.model for sample in results.samples), MODELS)


def _engines_of(results: Results, model: str) -> list[str]:
    names = {sample.engine for sample in results.samples if sample.model == model}
    return in_order(names & set(_ENGINES), _ENGINES)


def _workloads_of(results: Results, model: str) -> list[Workload]:
    names = {sample.workload for sample in results.samples if sample.model == model}
    return [WORKLOADS[name] for name in in_order(names, WORKLOADS)]


def _title(model: str) -> str:
    return MODELS[model].title


def _limit(results: Results, model: str, workload: Workload) -> float | None:
    limits = results.best_limits(results.machine.get("threads", 0))
    if limits is None:
        return None
    return speed_limit(results.shapes[model], workload, limits)


def _with_share(value: float | None, limit: float | None) -> str:
    if value is None or limit is None:
        return _NOT_MEASURED if value is None else _number(value)
    return f"{_number(value)} ({value / limit:.0%})"


def _with_ratios(results: Results, model: str, workload: Workload, value: float | None) -> str:
    """A peer's value and how many times it Lepton reaches, exact / fast."""
    if value is None:
        return _NOT_MEASURED
    ours = [results.median(model, workload.name, engine) for engine in OURS]
    ratios = " / ".join(_NOT_MEASURED if own is None else f"{own / value:.2f}" for own in ours)
    return f"{_number(value)} ({ratios} ×)"


def _quantity(value: float | None, workload: Workload) -> str:
    if value is None:
        return _NOT_MEASURED
    match workload.unit:
        case "s":
            return f"{value:.2f} s"
        case "bytes":
            return f"{value / 1e6:,.0f} MB"
        case _:
            return f"{value:.1f} %"


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _without_empty_columns(table: Table) -> Table:
    kept = [
        column
        for column in range(len(table.headers))
        if any(row[column] != _NOT_MEASURED for row in table.rows)
    ]
    return Table(
        table.title,
        tuple(table.headers[column] for column in kept),
        tuple(tuple(row[column] for column in kept) for row in table.rows),
        table.word_columns,
    )
