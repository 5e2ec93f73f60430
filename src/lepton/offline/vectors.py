"""A table of texts to a file of vectors, in memory that does not grow with either.

Vectors are written in parts of a fixed number of rows to a folder beside the result,
``<result>.parts``; an interrupted run goes on after the last whole part. At the end the parts
become one Parquet file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lepton.data import Row, TableReader
from lepton.data.writing import explain_errors
from lepton.engine import EmbedOptions, EncoderEngine
from lepton.engine.encoder_inputs import prompt_of
from lepton.errors import ConfigurationError
from lepton.extras import import_extra
from lepton.files import state_of
from lepton.models.executors.encoder_packing import choose_types
from lepton.offline.vector_parts import VectorParts

PART_ROWS = 8192

_OWN_COLUMNS = ("row", "line", "embedding")

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
    unreadable: int
    """Rows of the table's file that are not what the others are, and not in the result."""
    mended: int
    """Rows in another encoding or shape, which are."""


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

    Its columns are ``row`` (from 1, counting rows that could be read), ``line`` (where the row
    begins in the table's file, from 1; see ``Row.line``), those of the table that ``keep`` names,
    and ``embedding``, a list of ``dimensions`` float32, or null where there is no text.

    Raises DataError when the table or the result cannot be read or written, ConfigurationError
    when what an earlier run left belongs to another run or another process is writing it,
    RequestError for texts and options that are not valid.
    """
    places = [_column(table, name) for name in keep]
    encoder.embed_job([], options)  # refuses options before anything is written
    fingerprint = _fingerprint(encoder, table, options, keep, part_rows)
    with VectorParts(target, fingerprint, force=force) as parts:
        rows = iter(table)
        done = None if parts.finished else parts.count * part_rows
        total = empty = 0
        for row in islice(rows, done):
            total += 1
            empty += row.text is None
        resumed = total
        if progress is not None:
            progress(resumed)
        with explain_errors(parts.path):
            while batch := list(islice(rows, part_rows)):
                vectors = encoder.embed([row.text or "" for row in batch], options, progress)
                parts.add(_arrays(batch, vectors, keep, places))
                total += len(batch)
                empty += sum(row.text is None for row in batch)
            parts.finish()
    problems = table.problems
    return VectorRun(total, empty, resumed, problems.rejected.total(), problems.mended.total())


def _column(table: TableReader, name: str) -> int:
    if name in _OWN_COLUMNS:
        raise ConfigurationError(
            f"column {name!r} of {table.path} cannot be kept: the result has one of its own"
        )
    if name not in table.columns:
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
    config = encoder.config
    types = choose_types(config.dtype, config.quantize)
    facts = {
        "model": state_of(encoder.model.path.resolve()),
        "types": [config.executor == "reference", *astuple(types)],
        "max_tokens": encoder.max_tokens,
        "dimensions": encoder.dimensions,
        "options": asdict(options),
        "prompt": prompt_of(encoder.model, options.prompt_name, options.prompt),
        "table": [state_of(table.path.resolve()), table.encoding, table.delimiter, table.sheet],
        "columns": [*table.text_columns, *keep],
        "part_rows": part_rows,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _arrays(
    rows: Sequence[Row], vectors: Any, keep: Sequence[str], places: Sequence[int]
) -> dict[str, Any]:
    """The columns of one part."""
    arrow = import_extra("pyarrow")
    mask = arrow.array([row.text is None for row in rows])
    values = arrow.array(vectors.reshape(-1))
    return {
        "row": arrow.array([row.number for row in rows], arrow.int64()),
        "line": arrow.array([row.line for row in rows], arrow.int64()),
        **{
            name: arrow.array([row.values[place] for row in rows], arrow.string())
            for name, place in zip(keep, places, strict=True)
        },
        "embedding": arrow.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=mask),
    }
