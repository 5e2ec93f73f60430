"""``lepton data``: profile, clean, split and augment tables of texts."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table as Grid

from lepton.cli import tables
from lepton.cli.console import note, output
from lepton.cli.language import chinese, say
from lepton.data import report
from lepton.data.augmentation import (
    GROUP,
    METHOD,
    Augmented,
    augment,
    measure_gain,
    wanted_rows,
)
from lepton.data.cleaning import Cleaning, CleaningOptions, Conflicts, Removal
from lepton.data.duplicates import NEAR, duplicate_groups, find_leaks, text_hash
from lepton.data.profiling import profile
from lepton.data.reading import read_table
from lepton.data.rewriting import METHODS, load_lexicon, synonyms
from lepton.data.scoring import score_texts
from lepton.data.splitting import split
from lepton.data.table import Table
from lepton.data.writing import TableWriter, check_free, write_table, write_text
from lepton.errors import DataError
from lepton.files import part_of

app = typer.Typer(help="Profile, clean, split and augment tables of texts.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Table to write.")]
_SHOWN = 10


@app.command("profile")
def profile_table(
    file: tables.File,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="HTML report to write, JSON beside it; FILE.profile.html here if not given.",
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=100, help="Rows to look for near-duplicates and examples in.")
    ] = 50_000,
    text: tables.Text = None,
    label: tables.Label = None,
    encoding: tables.Encoding = None,
    delimiter: tables.Delimiter = None,
    sheet: tables.Sheet = None,
    seed: tables.Seed = 0,
    force: tables.Force = False,
) -> None:
    """Report what is in a table and what is wrong with it, as HTML and JSON."""
    page = out or Path(f"{file.stem}.profile.html")
    for path in (page, page.with_suffix(".json")):
        check_free(path, force=force)
    with tables.partial_work_is_kept(), tables.reading_bar(say("Reading")) as bar:
        reader = tables.open_table(file, text, label, encoding, delimiter, sheet, progress=bar)
        found = profile(reader, sample_rows=sample, seed=seed)
    write_text(page, report.to_html(found, chinese=chinese()), force=force)
    write_text(page.with_suffix(".json"), report.to_json(found), force=force)
    tables.show_figures(
        {
            "Rows": found.rows,
            "Labels": found.label_count,
            "Missing texts": found.missing_text,
            "Missing labels": found.missing_label,
            "Repeated rows": found.duplicate_rows,
            "Near-duplicates": found.near_duplicate_rows,
            "Texts under several labels": found.conflicting_texts,
        }
    )
    for warning in found.warnings:
        note(f"! {warning}")
    tables.list_problems(reader.problems)
    tables.show_written(page)


@app.command("clean")
def clean(
    file: tables.File,
    out: Out,
    removed: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table of removed rows with reasons; beside --out if not given.",
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Table of test texts: remove what is like them, so none leaks."
        ),
    ] = None,
    conflicts: Annotated[
        Conflicts, typer.Option(help="What to do with a text under several labels.")
    ] = Conflicts.MAJORITY,
    near: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Similarity from which near-duplicates go; 0 keeps them all."
        ),
    ] = CleaningOptions.near,
    max_characters: Annotated[
        int | None,
        typer.Option(min=0, help="Longer texts go; found from the lengths if not given, 0: none."),
    ] = None,
    duplicates: Annotated[bool, typer.Option(help="Remove repeated texts.")] = True,
    simplify: Annotated[bool, typer.Option(help="Traditional Chinese into simplified.")] = True,
    html: Annotated[bool, typer.Option(help="Strip HTML.")] = True,
    urls: Annotated[bool, typer.Option(help="Strip web addresses.")] = True,
    mask: Annotated[bool, typer.Option("--mask", help="Replace possible personal data.")] = False,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Keep rows without a label.")
    ] = False,
    text: tables.Text = None,
    label: tables.Label = None,
    encoding: tables.Encoding = None,
    delimiter: tables.Delimiter = None,
    sheet: tables.Sheet = None,
    force: tables.Force = False,
) -> None:
    """Clean a table; every row that goes is written down with its reason."""
    removed = removed or out.with_name(f"{out.stem}.removed{out.suffix}")
    summary = out.with_name(f"{out.stem}.cleaning.json")
    check_free(summary, force=force)
    options = CleaningOptions(
        html=html,
        urls=urls,
        simplify=simplify,
        mask_personal=mask,
        keep_unlabelled=keep_unlabelled,
        max_characters=max_characters,
        duplicates=duplicates,
        conflicts=conflicts,
        near=near,
    )
    kept_out = read_table(held_out).texts if held_out else []
    steps = {"survey": say("Reading"), "compare": say("Comparing"), "write": say("Writing")}
    with (
        tables.partial_work_is_kept(part_of(out), part_of(removed)),
        tables.reading_bar(say("Reading")) as bar,
        ExitStack() as writers,
    ):
        reader = tables.open_table(file, text, label, encoding, delimiter, sheet, progress=bar)
        cleaning = Cleaning(
            reader, options, held_out=kept_out, step=lambda name: bar.step(steps[name])
        )
        good = writers.enter_context(TableWriter(out, reader.columns, force=force))
        columns = ("row", "line", "reason", "detail", *reader.columns)
        bad = writers.enter_context(TableWriter(removed, columns, force=force))
        for item in cleaning:
            if isinstance(item, Removal):
                row = item.row
                bad.write((str(row.number), str(row.line), item.reason, item.detail, *row.values))
            else:
                good.write(item.values)
    done = cleaning.report
    write_text(summary, done.to_json(), force=force)
    tables.show_figures(
        {
            "Rows": done.read,
            "Kept": done.kept,
            **{f"removed: {reason}": count for reason, count in done.removed.most_common()},
            **{f"mended: {step}": count for step, count in done.mended.most_common()},
        }
    )
    for remark in done.notes:
        note(f"! {remark}")
    tables.list_problems(reader.problems)
    for path in (out, removed, summary):
        tables.show_written(path)


@app.command("split")
def split_table(
    file: tables.File,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the parts.")
    ],
    dev: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the rows for dev.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the rows for test.")] = 0.1,
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Rows with one value here stay on one side."),
    ] = None,
    near: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Texts so similar stay on one side; 0: no matter how alike."
        ),
    ] = NEAR,
    text: tables.Text = None,
    label: tables.Label = None,
    encoding: tables.Encoding = None,
    delimiter: tables.Delimiter = None,
    sheet: tables.Sheet = None,
    seed: tables.Seed = 0,
    force: tables.Force = False,
) -> None:
    """Split a table into train, dev and test: labels evenly, near-duplicates on one side."""
    names = [name for name, share in (("train", 1), ("dev", dev), ("test", test)) if share]
    paths = {name: out / f"{name}.csv" for name in names}
    for path in paths.values():
        check_free(path, force=force)
    table = tables.read_whole(file, text, label, encoding, delimiter, sheet)
    with tables.partial_work_is_kept(*map(part_of, paths.values())):
        groups = _groups(table, group, near)
        parts = split(table.labels, groups=groups, fractions=(1 - dev - test, dev, test), seed=seed)
        for name, path in paths.items():
            rows = table.take(getattr(parts, name)).rows
            write_table(path, table.columns, [row.values for row in rows], force=force)
            tables.show_written(path, len(rows))
    for warning in parts.warnings:
        note(f"! {warning}")
    if near and test:
        _report_leaks(table.take(parts.train), table.take(parts.test), near)


@app.command("leaks")
def leaks(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="Table to train on.")],
    test: Annotated[Path, typer.Argument(metavar="TEST", help="Table to test on.")],
    near: Annotated[
        float, typer.Option(min=0.1, max=1, help="Similarity that counts as a leak.")
    ] = NEAR,
    text: tables.Text = None,
    label: tables.Label = None,
) -> None:
    """Find rows of a test table that stand, or nearly so, in the training table; exit 1 if any."""
    sides = [tables.read_whole(side, text, label, None, None, None) for side in (train, test)]
    if _report_leaks(sides[0], sides[1], near):
        raise typer.Exit(1)


@app.command("augment")
def augment_table(
    file: tables.File,
    out: Out,
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
    held_out = [*dev_table.texts, *(read_table(test).texts if test else [])]
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
    grid = Grid(box=None, header_style="bold")
    for heading in ("on dev", "accuracy", "macro-F1"):
        grid.add_column(say(heading))
    for name, score in (("before", gain.before), ("after", gain.after)):
        grid.add_row(say(name), f"{score.accuracy:.4f}", f"{score.macro_f1:.4f}")
    output.print(grid)
    if not gain.helps:
        note(say("! macro-F1 did not rise: train without the new rows"))
    tables.show_written(out, len(table) + len(added))


def _groups(table: Table, group: str | None, near: float) -> list[object] | None:
    """What stays together: near-duplicates, and rows with one value in the column ``group``."""
    if group is not None:
        if near:
            note(say("Grouped by {column} only, not by similarity.", column=group))
        values = table.column(group)
        return [index if value is None else value for index, value in enumerate(values)]
    return list(duplicate_groups(table.texts, threshold=near)) if near else None


def _report_leaks(train: Table, test: Table, near: float) -> bool:
    found = find_leaks(train.texts, train.labels, test.texts, test.labels, threshold=near)
    if not found:
        note(say("✓ no row of the test part is like one of the training part"))
        return False
    note(
        say("! {count} rows of the test part are like rows of the training part", count=len(found))
    )
    for leak in found[:_SHOWN]:
        first, second = train.rows[leak.train], test.rows[leak.test]
        sides = (f"{row.line:,} {row.text!r}" for row in (first, second))
        note(f"  {leak.similarity:.0%}: {' ~ '.join(sides)}")
    return True


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
