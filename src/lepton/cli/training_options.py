"""Options and progress bars that training, evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lepton.cli.console import note, notices
from lepton.cli.language import say
from lepton.cli.tables import Delimiter as Delimiter
from lepton.cli.tables import Encoding as Encoding
from lepton.cli.tables import Label as Label
from lepton.cli.tables import Sheet as Sheet
from lepton.cli.tables import Text as Text
from lepton.training.loading import LoadedData
from lepton.training.scorers import ProgressCallback

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Folder of a run, or a name: its newest version.")
]
Threshold = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Give no label that is less probable than this."),
]

_STAGES = {
    "read": "Reading",
    "features": "Counting terms",
    "embed": "Embedding",
    "choose": "Choosing",
    "fit": "Fitting",
    "epoch": "Training",
    "tune": "Tuning",
    "vectors": "Word vectors",
    "save": "Saving",
}


class MethodName(StrEnum):
    """What `--method` takes."""

    AUTO = "auto"
    LINEAR = "linear"
    HEAD = "head"
    FEWSHOT = "fewshot"
    FINETUNE = "finetune"
    BAG = "bag"
    CNN = "cnn"
    BILSTM = "bilstm"
    TRANSFORMER = "transformer"


class ObjectiveName(StrEnum):
    """What `--objective` takes."""

    SINGLE = "single"
    MULTI = "multi"
    REGRESSION = "regression"


class PrecisionName(StrEnum):
    """What `--precision` takes."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class ScheduleName(StrEnum):
    """What `--schedule` takes."""

    LINEAR = "linear"
    COSINE = "cosine"
    PLATEAU = "plateau"
    CONSTANT = "constant"


@contextmanager
def training_bar() -> Iterator[ProgressCallback]:
    """A callback that shows the stage of a training with its live metrics."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    with Progress(*columns, console=notices, transient=True) as bars:
        current: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None, metrics: Mapping[str, float]) -> None:
            kind, _, detail = stage.partition(" ")
            if stage not in current:
                for task in current.values():
                    bars.remove_task(task)
                current.clear()
                description = " ".join((say(_STAGES.get(kind, kind)), detail)).strip()
                current[stage] = bars.add_task(description, total=total, metrics="")
            shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            bars.update(current[stage], completed=done, total=total, metrics=shown)

        yield show


@contextmanager
def row_bar(description: str, total: int | None) -> Iterator[Progress]:
    """A bar with the time left, for rows of a file."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notices, transient=True) as bars:
        bars.add_task(description, total=total)
        yield bars


def tell_left_out(data: LoadedData, file: str) -> None:
    """Say which rows of a file are not used or were mended, and why."""
    if data.unlabelled:
        note(
            say(
                "{file}: {count:,} rows without a text or a label were left out",
                file=file,
                count=data.unlabelled,
            )
        )
    tell_problems(file, data.unreadable, data.mended)


def tell_problems(file: str, unreadable: int, mended: int) -> None:
    """Say how many rows of a file were not what the others are."""
    if unreadable:
        note(say("{file}: {count:,} rows could not be read", file=file, count=unreadable))
    if mended:
        note(
            say(
                "{file}: {count:,} rows in another encoding or shape were mended",
                file=file,
                count=mended,
            )
        )
    if unreadable or mended:
        note(say("{command} lists them", command=f"lepton data profile {file}"))
