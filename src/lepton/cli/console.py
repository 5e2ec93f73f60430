"""Consoles, progress bars and how sizes are written."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lepton.cli.language import say
from lepton.models.sources import ProgressCallback
from lepton.offline.runner import Progress as AnswersProgress

output = Console()
"""For what was asked for."""
notices = Console(stderr=True)
"""For everything else, so that pipes stay clean."""

_STAGES = {
    "wait": "Waiting for another download",
    "download": "Downloading",
    "unpack": "Unpacking",
    "verify": "Verifying",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """``text`` without the control characters that could steer a terminal."""
    return _CONTROL.sub("", text)


def fail(message: str) -> None:
    """Print one red line about an error."""
    lead = f"[bold red]{say('Error:')}[/]"
    notices.print(f"{lead} {escape(harmless(message))}", soft_wrap=True, highlight=False)


def note(message: str) -> None:
    """Print one dim line beside the output."""
    notices.print(f"[dim]{escape(message)}[/]", soft_wrap=True, highlight=False)


def size(count: int | None) -> str:
    """Bytes for people, in powers of 1,000 as disks and downloads are sold: ``98.4 MB``."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.{1 if value < 1000 else 0}f} {unit}"


@contextmanager
def progress_bar(name: str) -> Iterator[ProgressCallback]:
    """A callback for downloads that draws a bar on standard error while it is used."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notices, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    progress.update(task, visible=False)
                description = f"{say(_STAGES.get(stage, stage))} {escape(name)}"
                tasks[stage] = progress.add_task(description, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield show


@contextmanager
def answers_bar() -> Iterator[AnswersProgress]:
    """A callback for files of prompts that draws a bar on standard error while it is used."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notices, transient=True) as progress:
        task = progress.add_task(say("Answering"), total=None, speed="")
        started = time.monotonic()

        def show(done: int, total: int, tokens: int) -> None:
            rate = tokens / max(time.monotonic() - started, 1e-6)
            progress.update(task, completed=done, total=total, speed=f"{rate:,.0f} tokens/s")

        yield show
