"""``lepton data``: profile, clean and split tables of texts."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from lepton.cli import tables
from lepton.cli.augment import augment_table
from lepton.cli.console import note
from lepton.cli.language import chinese, say
from lepton.data import report
from lepton.data.cleaning import Cleaning, CleaningOptions, Conflicts, Removal
from lepton.data.duplicates import NEAR, duplicate_groups, find_leaks
from lepton.data.profiling import profile
from lepton.data.reading import read_table
from lepton.data.splitting import split
from lepton.data.table import Table
from lepton.data.writing import ProblemWriter, TableWriter, check_free, write_table, write_text
from lepton.errors import DataError
from lepton.files import part_of

app = typer.Typer(help="Profile, clean, split and augment tables of texts.", no_args_is_help=True)
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
    numbers = page.with_suffix(".json")
    lost = page.with_suffix(".problems.csv")
    check_free(page, numbers, lost, force=force)
    with (
        tables.partial_work_is_kept(part_of(lost)),
        tables.reading_bar(say("Reading")) as bar,
        ProblemWriter(lost, force=force) as problems,
    ):
        reader = tables.open_table(
            file,
            *(text, label, encoding, delimiter, sheet),
            progress=bar,
            on_problem=problems.add,
        )
        found = profile(reader, sample_rows=sample, seed=seed)
    if problems.count:
        found.problems_file = lost.name
    write_text(page, report.to_html(found, chinese=chinese()), force=force)
    write_text(numbers, report.to_json(found), force=force)
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
    tables.list_problems(reader.problems, all_in=str(lost))
    tables.show_written(page)
    tables.show_written(numbers)
    if problems.count:
        tables.show_written(lost, problems.count)


@app.command("clean")
def clean(
    file: tables.File,
    out: tables.Out,
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
    check_free(out, removed, summary, force=force)
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
    steps = {"survey": say("Reading"), "compare": say("Comparing"), "write": say("Writing")}
    with (
        tables.partial_work_is_kept(part_of(out), part_of(removed)),
        tables.reading_bar(say("Reading")) as bar,
        ExitStack() as writers,
    ):
        reader = tables.open_table(file, text, label, encoding, delimiter, sheet, progress=bar)
        kept_out = read_table(held_out, text=reader.text_columns).texts if held_out else []
        cleaning = Cleaning(
            reader, options, held_out=kept_out, step=lambda name: bar.step(steps[name])
        )
        good = writers.enter_context(TableWriter(out, reader.columns, force=force))
        columns = ("row", "line", "reason", "detail", *reader.columns)
        bad = writers.enter_context(TableWriter(removed, columns, force=force))
        for item in cleaning:
            if isinstance(item, Removal):
                row = item.row
                number = str(row.number) if row.number else None
                bad.write((number, str(row.line), item.reason, item.detail, *row.values))
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
    tables.list_problems(reader.problems, all_in=f"lepton data profile {file}")
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
    if dev + test >= 1:
        raise DataError(
            f"--dev {dev:g} and --test {test:g} leave nothing to train on: "
            "together they must be less than 1"
        )
    names = [name for name, share in (("train", 1), ("dev", dev), ("test", test)) if share]
    paths = {name: out / f"{name}.csv" for name in names}
    check_free(*paths.values(), force=force)
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


app.command("augment")(augment_table)
