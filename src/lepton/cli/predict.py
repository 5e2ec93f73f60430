"""``lepton predict``: scores for a file or a stream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lepton.cli import tables
from lepton.cli import training_options as shared
from lepton.cli.console import fail, note, notices
from lepton.cli.language import say
from lepton.data.reading import ReadProgress, TableReader
from lepton.errors import RequestError
from lepton.training.predict import RowProgress, predict_file
from lepton.training.predict_stream import predict_stream
from lepton.training.run import check_columns
from lepton.training.trained_model import TrainedModel


def predict(
    run: shared.Run,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Table of texts; - reads a JSON object a line."),
    ] = "-",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The .csv, .tsv or .jsonl to write; must not exist."),
    ] = None,
    text: shared.Text = None,
    encoding: tables.Encoding = None,
    delimiter: tables.Delimiter = None,
    sheet: tables.Sheet = None,
    threshold: shared.Threshold = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add the probability of every label.")
    ] = False,
) -> None:
    """Score every row of a file, or of a stream; interrupted, the same command continues."""
    with notices.status(say("Loading {model}", model=run)):
        model = TrainedModel.load(run)
    if file == "-":
        if out is not None:
            raise RequestError(say("a stream is answered on standard output: leave --out away"))
        several = model.manifest.text_columns if model.manifest.config.fields > 1 else ()
        fields = text or several or ("text",)
        check_columns(model.manifest, fields)
        predict_stream(model, sys.stdin.buffer, sys.stdout.buffer, text=fields, threshold=threshold)
        return
    if out is None:
        raise RequestError(say("name the file to write: --out scored.csv"))
    try:
        with _progress() as (on_read, on_rows):
            reader = TableReader(
                file,
                text=text,
                usual_text=model.manifest.text_columns,
                encoding=encoding,
                delimiter=delimiter,
                sheet=sheet,
                progress=on_read,
            )
            scored = predict_file(
                model,
                reader,
                out,
                threshold=threshold,
                probabilities=probabilities,
                on_rows=on_rows,
            )
    except KeyboardInterrupt:
        fail(say("interrupted; the same command continues after the last row written"))
        raise typer.Exit(130) from None
    if scored.resumed_at:
        note(say("continued after {count:,} rows", count=scored.resumed_at))
    shared.tell_problems(file, scored.unreadable, scored.mended)
    notices.print(say("{rows:,} rows in {file}", rows=scored.rows, file=out), highlight=False)


@contextmanager
def _progress() -> Iterator[tuple[ReadProgress, RowProgress]]:
    """A bar, and what tells it how much of the file is read and how many rows are scored."""
    with shared.row_bar(say("Scoring"), None) as bars:
        task = bars.task_ids[0]
        reached = [0, 0]

        def on_read(done: int, total: int | None) -> None:
            reached[:] = [done, total or 0]

        def on_rows(rows: int) -> None:
            # Bytes read of bytes in all tell how many rows there will be.
            share = reached[0] / reached[1] if reached[1] else 0.0
            total = round(rows / share) if share > 0 else None
            bars.update(task, completed=rows, total=total)

        yield on_read, on_rows
