"""``lepton data augment``: more training rows, and what they gain."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table as Grid

from lepton.cli import tables
from lepton.cli.console import note, output
from lepton.cli.language import say
from lepton.data.augmentation import (
    GROUP,
    METHOD,
    Augmented,
    Gain,
    augment,
    measure_gain,
    wanted_rows,
)
from lepton.data.duplicates import text_hash
from lepton.data.reading import read_table
from lepton.data.rewriting import METHODS, load_lexicon, synonyms
from lepton.data.scoring import score_texts
from lepton.data.table import Table
from lepton.data.writing import TableWriter, check_free
from lepton.errors import DataError
from lepton.files import part_of


def augment_table(
    file: tables.File,
    out: tables.Out,
    dev: Annotated[
        Path, typer.Option(metavar="FILE", help="Dev table, which the gain is measured on.")
    ],
    test: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Test table: none of its texts may come out."),
    ] = None,
    factor: Annotated[float, typer.Option(min=0, help="New rows for every row.")] = 1.0,
    balance: Annotated[
        float,
        typer.Option(min=0, max=1, help="Bring rare labels to this share of the most frequent."),
    ] = 0.0,
    method: Annotated[
        list[str] | None,
        typer.Option(help="synonym, swap, delete, homophone, typo; all if not given."),
    ] = None,
    lexicon: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Synonyms of your own, one group a line."),
    ] = None,
    text: tables.Text = None,
    label: tables.Label = None,
    encoding: tables.Encoding = None,
    delimiter: tables.Delimiter = None,
    sheet: tables.Sheet = None,
    seed: tables.Seed = 0,
    force: tables.Force = False,
) -> None:
    """Add rewritten rows to a training table, and measure on dev whether that helps."""
    check_free(out, force=force)
    unknown = set(method or ()) - METHODS.keys()
    if unknown:
        raise DataError(f"unknown method {min(unknown)!r}; there are: {', '.join(METHODS)}")
    table = tables.labelled(tables.read_whole(file, text, label, encoding, delimiter, sheet))
    dev_table = tables.labelled(read_table(dev, text=table.text_columns, label=table.label_column))
    held_out = dev_table.texts
    if test is not None:
        held_out += read_table(test, text=table.text_columns).texts
    labels = [str(name) for name in table.labels]
    chosen = {name: METHODS[name] for name in method or METHODS}
    if lexicon is not None:
        chosen["synonym"] = synonyms(load_lexicon(lexicon))
    with tables.partial_work_is_kept(part_of(out)):
        with tables.counting_bar(say("Rewriting")) as bar:
            added = augment(
                table.texts,
                labels,
                wanted_rows(labels, factor=factor, balance=balance),
                methods=chosen,
                held_out=held_out,
                seed=seed,
                progress=bar,
            )
        gain = measure_gain(
            (table.texts, labels),
            (dev_table.texts, [str(name) for name in dev_table.labels]),
            added,
            score_texts,
        )
        _write_augmented(table, added, out, force)
    counts = Counter(new.method for new in added)
    tables.show_figures(
        {"Rows": len(table), **{f"added: {name}": n for name, n in counts.most_common()}}
    )
    _show_gain(gain)
    tables.show_written(out, len(table) + len(added))


def _show_gain(gain: Gain) -> None:
    grid = Grid(box=None, header_style="bold")
    for heading in ("on dev", "accuracy", "macro-F1"):
        grid.add_column(say(heading))
    for name, score in (("before", gain.before), ("after", gain.after)):
        grid.add_row(say(name), f"{score.accuracy:.4f}", f"{score.macro_f1:.4f}")
    output.print(grid)
    if not gain.helps:
        note(say("! macro-F1 did not rise: train without the new rows"))


def _write_augmented(table: Table, added: list[Augmented], out: Path, force: bool) -> None:
    """The table, then the new rows; what the columns of an earlier augmentation say is kept."""
    own = {name: _values(table, name) for name in (METHOD, GROUP)}
    groups = [
        group or f"{text_hash(text):016x}"
        for group, text in zip(own[GROUP], table.texts, strict=True)
    ]
    kept = [index for index, name in enumerate(table.columns) if name not in own]
    names = [table.columns[index] for index in kept]
    with TableWriter(out, (*names, METHOD, GROUP), force=force) as writer:
        for row, method, group in zip(table.rows, own[METHOD], groups, strict=True):
            writer.write((*(row.values[index] for index in kept), method, group))
        for new in added:
            values = dict(zip(table.columns, table.rows[new.source].values, strict=True))
            values |= dict.fromkeys(table.text_columns) | {table.text_columns[0]: new.text}
            writer.write((*(values[name] for name in names), new.method, groups[new.source]))


def _values(table: Table, column: str) -> list[str | None]:
    return table.column(column) if column in table.columns else [None] * len(table)
