"""What commands over tables of texts share: options, bars, and the end by Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table as Grid

from lepton.cli.console import note, notices, output
from lepton.cli.language import say
from lepton.data.reading import ReadProgress, TableReader
from lepton.data.table import ProblemCallback, Problems, Table
from lepton.errors import DataError

_READING = "Reading"
_SHOWN = 10

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="CSV, TSV, JSON Lines, Parquet, Excel, or a folder with a sub-folder for each label.",
        show_default=False,
    ),
]
Text = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="COLUMN",
        help="Column of the text; found by its name if not given; may be repeated.",
        rich_help_panel=_READING,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of the label; found by its name if not given.",
        rich_help_panel=_READING,
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        help="Encoding, such as utf-8 or gb18030; found out if not given.",
        rich_help_panel=_READING,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        help="Delimiter of CSV; found out if not given.",
        callback=lambda given: "\t" if given in ("\\t", "tab") else given,
        rich_help_panel=_READING,
    ),
]
Sheet = Annotated[
    str | None,
    typer.Option(
        help="Sheet of an Excel workbook; the first if not given.",
        rich_help_panel=_READING,
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Table to write.")]
Force = Annotated[bool, typer.Option("--force", help="Write over files that exist.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]


class ReadingBar:
    """A bar that follows how much of a file was read; give it to a reader as ``progress``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def step(self, description: str) -> None:
        """Begin anew under another description."""
        self._progress.reset(self._task, description=description, total=None)

    def __call__(self, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` are done."""
        self._progress.update(self._task, completed=done, total=total)


def _progress(*columns: ProgressColumn) -> Progress:
    """Bars on standard error, where it is a terminal."""
    return Progress(*columns, console=notices, transient=True, disable=not notices.is_terminal)


@contextmanager
def reading_bar(description: str) -> Iterator[ReadingBar]:
    """A bar on standard error while a table is read."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    )
    with _progress(*columns, TimeRemainingColumn()) as progress:
        bar = ReadingBar(progress)
        bar.step(description)
        yield bar


@contextmanager
def counting_bar(description: str) -> Iterator[ReadProgress]:
    """A bar on standard error that counts things."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with _progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def open_table(
    file: Path,
    text: list[str] | None,
    label: str | None,
    encoding: str | None,
    delimiter: str | None,
    sheet: str | None,
    *,
    progress: ReadProgress | None = None,
    on_problem: ProblemCallback | None = None,
) -> TableReader:
    """A reader for the options above."""
    return TableReader(
        file,
        text=text,
        label=label,
        encoding=encoding,
        delimiter=delimiter,
        sheet=sheet,
        progress=progress,
        on_problem=on_problem,
    )


@contextmanager
def partial_work_is_kept(*parts: Path) -> Iterator[None]:
    """Say on Ctrl-C where the rows written so far are."""
    try:
        yield
    except KeyboardInterrupt:
        left = ", ".join(str(part) for part in parts if part.exists())
        if left:
            notices.print(say("Stopped. What was written so far: {files}", files=left))
        else:
            notices.print(say("Stopped. Nothing was written."))
        raise typer.Exit(130) from None


def read_whole(
    file: Path,
    text: list[str] | None,
    label: str | None,
    encoding: str | None,
    delimiter: str | None,
    sheet: str | None,
) -> Table:
    """The whole table, with a bar while it is read."""
    with partial_work_is_kept(), reading_bar(say("Reading")) as bar:
        reader = open_table(file, text, label, encoding, delimiter, sheet, progress=bar)
        rows = list(reader)
    if not rows:
        raise DataError("no row below the header", file=file)
    list_problems(reader.problems, all_in=f"lepton data profile {file}")
    return Table(
        str(file), reader.columns, reader.text_columns, reader.label_column, rows, reader.problems
    )


def labelled(table: Table) -> Table:
    """The rows that have a text and a label.

    Raises:
        DataError: there are none, or there is no column of labels.
    """
    if table.label_column is None:
        raise DataError("no column of labels: name it with --label", file=table.source)
    found, left_out = table.labelled()
    if not found.rows:
        raise DataError("no row has both a text and a label", file=table.source)
    if left_out:
        note(
            say(
                "! {count} rows of {file} lack a text or a label and are left out",
                count=left_out,
                file=table.source,
            )
        )
    return found


def show_figures(figures: dict[str, int]) -> None:
    """Print names and numbers in two columns."""
    grid = Grid(box=None, show_header=False)
    grid.add_column(style="bold")
    grid.add_column(justify="right")
    for name, value in figures.items():
        kind, _, rest = name.partition(": ")
        grid.add_row(f"{say(kind)}: {say(rest)}" if rest else say(name), f"{value:,}")
    output.print(grid)


def list_problems(problems: Problems, *, all_in: str) -> None:
    """Name the rows that were rejected or mended while reading, the first of them one by one.

    Args:
        problems: what was met.
        all_in: the file, or the command, that lists them all.
    """
    if not len(problems):
        return
    note(
        say(
            "! {rejected} rows could not be read, {mended} were mended",
            rejected=problems.rejected.total(),
            mended=problems.mended.total(),
        )
    )
    for problem in problems.first[:_SHOWN]:
        kept = say("mended") if problem.kept else say("rejected")
        note(f"  {say('line')} {problem.line:,}: {problem.detail} ({kept})")
    if len(problems) > _SHOWN:
        left = f"{len(problems) - _SHOWN:,}"
        note("  " + say("… {count} more, all of them by {source}", count=left, source=all_in))


def show_written(path: Path, rows: int | None = None) -> None:
    """Print the path of a file that was written."""
    count = "" if rows is None else f" ({say('{count} rows', count=f'{rows:,}')})"
    output.print(f"[green]✓[/] {escape(str(path))}{count}", soft_wrap=True, highlight=False)
