"""A table of texts to a file of vectors, in memory that does not grow with either.

Vectors are written in parts of a fixed number of rows to a folder beside the result,
``<result>.parts``; an interrupted run goes on after the last whole part. At the end the parts
become one Parquet file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lepton.data import Row, TableReader
from lepton.data.writing import check_free, explain_errors
from lepton.engine import EmbedOptions, EncoderEngine
from lepton.errors import ConfigurationError
from lepton.extras import import_extra
from lepton.files import replaced

PART_ROWS = 8192

VectorProgress = Callable[[int], object]
"""Told how many rows are done since the last call."""


@dataclass(frozen=True)
class VectorRun:
    """What was embedded."""

    rows: int
    empty: int
    """Rows without a text, which have no vector."""
    resumed: int
    """Rows that an earlier run had done."""


def embed_table(
    encoder: EncoderEngine,
    table: TableReader,
    target: Path,
    options: EmbedOptions,
    *,
    keep: Sequence[str] = (),
    force: bool = False,
    part_rows: int = PART_ROWS,
    progress: VectorProgress | None = None,
) -> VectorRun:
    """Embed every text of a table into a Parquet file.

    Its columns are ``row`` (from 1), those of the table that ``keep`` names, and ``embedding``, a
    list of ``dimensions`` float32, or null where there is no text.

    Raises DataError when the table or the result cannot be read or written, ConfigurationError
    when what an earlier run left belongs to another run, RequestError for texts and options that
    are not valid.
    """
    check_free(target, force=force)
    folder = target.with_name(f"{target.name}.parts")
    places = [_column(table, name) for name in keep]
    done = _resume(folder, _fingerprint(encoder, table, options, keep, part_rows))
    rows = iter(table)
    resumed = sum(1 for _ in islice(rows, done * part_rows))
    if progress is not None:
        progress(resumed)
    total, empty, number = resumed, 0, done
    with explain_errors(folder):
        while batch := list(islice(rows, part_rows)):
            vectors = encoder.embed([row.text or "" for row in batch], options, progress)
            empty += sum(row.text is None for row in batch)
            _write_part(folder / f"{number:08d}.parquet", batch, vectors, keep, places)
            total += len(batch)
            number += 1
        _join(folder, target)
    return VectorRun(total, empty, resumed)


def _column(table: TableReader, name: str) -> int:
    if name in ("row", "embedding") or name not in table.columns:
        raise ConfigurationError(
            f"{table.path} has no column {name!r} to keep; it has {', '.join(table.columns[:20])}"
        )
    return list(table.columns).index(name)


def _fingerprint(
    encoder: EncoderEngine,
    table: TableReader,
    options: EmbedOptions,
    keep: Sequence[str],
    part_rows: int,
) -> str:
    """Whatever decides the vectors and how they are cut into parts."""
    state = table.path.stat()
    facts = {
        "model": encoder.model.name,
        "max_tokens": encoder.max_tokens,
        "dimensions": encoder.dimensions,
        "options": asdict(options),
        "table": [str(table.path.resolve()), state.st_size, state.st_mtime_ns],
        "columns": [*table.text_columns, *keep],
        "part_rows": part_rows,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _resume(folder: Path, fingerprint: str) -> int:
    """Number of whole parts that an earlier run of the same kind left."""
    note = folder / "run.json"
    with explain_errors(folder):
        if not note.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps({"run": fingerprint}), encoding="utf-8")
            return 0
        if note.read_text(encoding="utf-8") != json.dumps({"run": fingerprint}):
            raise ConfigurationError(
                f"{folder} belongs to another run: the table, the model or the settings were "
                "different; finish that run with what it had, or delete the folder to begin anew"
            )
        count = 0
        while (folder / f"{count:08d}.parquet").is_file():
            count += 1
    return count


def _write_part(
    path: Path, rows: Sequence[Row], vectors: Any, keep: Sequence[str], places: Sequence[int]
) -> None:
    arrow = import_extra("pyarrow")
    parquet = import_extra("pyarrow.parquet")
    mask = arrow.array([row.text is None for row in rows])
    values = arrow.array(vectors.reshape(-1))
    columns = {
        "row": arrow.array([row.number for row in rows], arrow.int64()),
        **{
            name: arrow.array([row.values[place] for row in rows], arrow.string())
            for name, place in zip(keep, places, strict=True)
        },
        "embedding": arrow.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=mask),
    }
    with replaced(path) as part:
        parquet.write_table(arrow.table(columns), part)


def _join(folder: Path, target: Path) -> None:
    """All parts as one file; the folder goes when it is whole."""
    parquet = import_extra("pyarrow.parquet")
    parts = sorted(folder.glob("*.parquet"))
    if not parts:
        shutil.rmtree(folder)
        raise ConfigurationError("the table has no rows")
    with (
        replaced(target) as part,
        parquet.ParquetWriter(part, parquet.read_schema(parts[0])) as writer,
    ):
        for batch in _batches(parts):
            writer.write_table(batch)
    shutil.rmtree(folder)


def _batches(parts: Sequence[Path]) -> Iterator[Any]:
    parquet = import_extra("pyarrow.parquet")
    for part in parts:
        yield parquet.read_table(part)
