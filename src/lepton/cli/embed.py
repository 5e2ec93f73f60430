"""``lepton embed``: a table of texts to a file of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lepton.cli import options
from lepton.cli import training_options as shared
from lepton.cli.console import note
from lepton.cli.language import say
from lepton.engine import EmbedOptions, EncoderEngine, EngineConfig, LongTexts
from lepton.models.encoder_loader import load_encoder
from lepton.models.sentence_transformers import SentenceSettings


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
    prompt_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model's prompt to put before texts, as passage; its default if not given.",
        ),
    ] = None,
    prompt_text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Text to put before texts instead of a prompt; '' for none."
        ),
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
    """Embed the texts of a table; each vector has the row's number and its line in the file."""
    from lepton.data import TableReader
    from lepton.offline.vectors import embed_table

    table = TableReader(source, text=column)
    network = load_encoder(model)
    encoder = EncoderEngine(network, EngineConfig(threads=threads, quantize=quantize))
    try:
        if prompt_name is None and prompt_text is None:
            _tell_default_prompt(network.settings)
        with shared.row_bar(say("Counting rows"), None) as bars:
            (task,) = bars.task_ids
            bars.update(
                task, total=sum(1 for _ in table), description=say("Embedding {file}", file=source)
            )
            run = embed_table(
                encoder,
                table,
                out,
                EmbedOptions(prompt_name, dimensions, long_texts=long_texts, prompt=prompt_text),
                keep=keep or (),
                force=force,
                progress=lambda rows: bars.advance(task, rows),
            )
    finally:
        encoder.close()
        network.close()
    shared.tell_problems(str(source), run.unreadable, run.mended)
    note(
        say(
            "{rows:,} rows in {file}; {empty:,} without a text, {resumed:,} from an earlier run",
            rows=run.rows,
            file=out,
            empty=run.empty,
            resumed=run.resumed,
        )
    )


def _tell_default_prompt(settings: SentenceSettings) -> None:
    """Say what is put before texts though nobody asked for it."""
    name = settings.default_prompt
    if name is None or not settings.prompts[name]:
        return
    others = ", ".join(other for other in settings.prompts if other != name)
    note(
        say(
            "Before each text goes the model's default prompt {name}: {text!r}; others "
            "(--prompt-name): {others}; none: --prompt-text ''",
            name=name,
            text=settings.prompts[name],
            others=others or say("none"),
        )
    )
