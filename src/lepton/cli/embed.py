"""``lepton embed``: a table of texts to a file of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lepton.cli import options
from lepton.cli.console import note, notices
from lepton.cli.language import say
from lepton.engine import EmbedOptions, EncoderEngine, EngineConfig, LongTexts
from lepton.models.encoder_loader import load_encoder


def embed(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, TSV, JSON lines, Parquet or Excel.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="Parquet file for the vectors; a stopped run goes on."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(metavar="MODEL", help="Encoder: name of the catalogue, or path."),
    ] = "all-minilm-l6-v2",
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Column with the text; may be repeated."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Column to keep beside the vectors; may be repeated."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model's prompt to put before texts, as passage."),
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep the first N dimensions.")
    ] = None,
    long_texts: Annotated[
        LongTexts,
        typer.Option(help="Embed texts beyond the model's length whole, or their beginning."),
    ] = "window",
    threads: options.Threads = 0,
    quantize: options.Quantize = "none",
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Embed the texts of a table; the result lists a vector for each row."""
    from lepton.data import TableReader
    from lepton.offline.vectors import embed_table

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    table = TableReader(source, text=column)
    network = load_encoder(model)
    encoder = EncoderEngine(network, EngineConfig(threads=threads, quantize=quantize))
    try:
        with Progress(*columns, console=notices, transient=True) as bars:
            task = bars.add_task(say("Counting rows"), total=None)
            bars.update(
                task, total=sum(1 for _ in table), description=say("Embedding {file}", file=source)
            )
            run = embed_table(
                encoder,
                table,
                out,
                EmbedOptions(prompt, dimensions, long_texts=long_texts),
                keep=keep or (),
                force=force,
                progress=lambda rows: bars.advance(task, rows),
            )
    finally:
        encoder.close()
        network.close()
    note(
        say(
            "{rows:,} rows in {file}; {empty:,} without a text, {resumed:,} from an earlier run",
            rows=run.rows,
            file=out,
            empty=run.empty,
            resumed=run.resumed,
        )
    )
