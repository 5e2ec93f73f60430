"""Tables to datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lepton.data.augmentation import GROUP
from lepton.data.reading import ReadProgress, read_table
from lepton.errors import DataError
from lepton.training.config import Objective
from lepton.training.dataset import Dataset, make_dataset


@dataclass(frozen=True)
class LoadedData:
    """A dataset, and what of its file is not in it."""

    dataset: Dataset
    unlabelled: int
    """Rows without a text or a label."""
    unreadable: int
    mended: int
    text_columns: tuple[str, ...]
    label_column: str


def load_dataset(
    path: str | Path,
    *,
    text: str | Sequence[str] | None = None,
    usual_text: Sequence[str] = (),
    label: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    objective: Objective | None = None,
    labels: Sequence[str] | None = None,
    progress: ReadProgress | None = None,
) -> LoadedData:
    """Read a file or folder (see `lepton.data.read_table`) as rows to train on or to judge with.

    Raises:
        DataError: the file cannot be read, has no column with labels, or cannot be learned from.
    """
    table = read_table(
        path,
        text=text,
        usual_text=usual_text,
        label=label,
        encoding=encoding,
        delimiter=delimiter,
        sheet=sheet,
        progress=progress,
    )
    if table.label_column is None:
        raise DataError(
            f"which column holds the label? Name one of: {', '.join(table.columns[:20])}",
            file=table.source,
        )
    complete, unlabelled = table.labelled()
    dataset = make_dataset(
        complete.texts,
        complete.labels,
        objective=objective,
        labels=labels,
        source=table.source,
    )
    if GROUP in complete.columns:
        dataset = replace(dataset, origins=tuple(complete.column(GROUP)))
    return LoadedData(
        dataset,
        unlabelled,
        sum(table.problems.rejected.values()),
        sum(table.problems.mended.values()),
        table.text_columns,
        table.label_column,
    )
