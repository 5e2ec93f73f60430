"""``lepton evaluate``: what a run is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lepton.cli import options, tables
from lepton.cli import training_options as shared
from lepton.cli.console import fail, notices, output
from lepton.cli.language import say
from lepton.data.writing import check_free
from lepton.errors import RequestError
from lepton.training.evaluation import Evaluation, check_measures
from lepton.training.evaluation import evaluate as evaluate_run
from lepton.training.loading import load_dataset
from lepton.training.report import html_report
from lepton.training.run import (
    cannot_write,
    check_columns,
    locate_run,
    read_manifest,
    write_json,
    write_text,
)

_REPORT, _VALUES = "report.html", "evaluation.json"
GATE_EXIT = 3
"""Exit code when a measure misses its bound."""


def evaluate(
    run: shared.Run,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled rows that the model has not seen.")
    ],
    text: shared.Text = None,
    label: shared.Label = None,
    encoding: shared.Encoding = None,
    delimiter: shared.Delimiter = None,
    sheet: shared.Sheet = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write report.html and evaluation.json there."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Another run to compare with.")
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=BOUND",
            help="Exit with code 3 if a measure misses its bound, such as macro_f1=0.9.",
        ),
    ] = None,
    force: tables.Force = False,
    seed: Annotated[int, typer.Option(help="Of resampling and of typos that are added.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Measure a run on labelled rows, with intervals, slices, mistakes, and linear beside it."""
    bounds = dict(_bound(entry) for entry in gate or ())
    manifest = read_manifest(locate_run(run))
    check_measures(bounds, manifest.objective)
    if out is not None:
        for name in (_REPORT, _VALUES):
            check_free(out / name, force=force)
    loaded = load_dataset(
        data,
        text=text,
        usual_text=manifest.text_columns,
        label=label,
        encoding=encoding,
        delimiter=delimiter,
        sheet=sheet,
        objective=manifest.objective,
        labels=manifest.labels or None,
    )
    check_columns(manifest, loaded.text_columns)
    shared.tell_left_out(loaded, data)
    with notices.status(say("Evaluating")):
        evaluation = evaluate_run(run, loaded.dataset, against=against, seed=seed)
    if out is not None:
        _write(evaluation, out)
    if as_json:
        output.print_json(json.dumps(evaluation.values))
    else:
        output.print(_table(evaluation))
        if out is not None:
            output.print(f"[green]✓[/] {escape(str(out / _REPORT))}", highlight=False)
    failures = evaluation.failures(bounds)
    for failure in failures:
        fail(failure)
    if failures:
        raise typer.Exit(GATE_EXIT)


def _write(evaluation: Evaluation, out: Path) -> None:
    page = html_report(evaluation)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / _VALUES, evaluation.values)
        write_text(out / _REPORT, page)
    except OSError as error:
        raise cannot_write(out, error) from error


def _bound(entry: str) -> tuple[str, float]:
    name, _, bound = entry.partition("=")
    try:
        return name.strip(), float(bound)
    except ValueError:
        raise RequestError(
            say("write a bound such as macro_f1=0.9, not {entry}", entry=entry)
        ) from None


def _table(evaluation: Evaluation) -> Table:
    values = evaluation.values
    table = Table(box=None, header_style="bold")
    table.add_column(say("Measure"))
    table.add_column(escape(values["run"]))
    for other in values["compared"]:
        table.add_column(escape(f"{other['run']} ({other['method']})"))
    for name, entry in values["metrics"].items():
        others = [other["metrics"].get(name) for other in values["compared"]]
        table.add_row(name.replace("_", " "), _number(entry), *map(_number, others))
    for index, other in enumerate(values["compared"]):
        if "mcnemar" in other:
            blank = [""] * (index + 1)
            table.add_row("McNemar p", *blank, f"{other['mcnemar']['p_value']:.3g}")
    return table


def _number(entry: dict[str, float] | None) -> str:
    if entry is None:
        return ""
    if "low" not in entry:
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} ({entry['low']:.3f} – {entry['high']:.3f})"
