"""Check a batch before anything is computed or written."""

from __future__ import annotations

import numpy as np

from lepton.models.executors.base import BLOCK_SIZE, Batch, Int32Array


def check_batch(batch: Batch, *, vocab_size: int, num_blocks: int) -> None:
    """Raise ValueError, saying what and where, if a batch contradicts itself or its bounds."""
    _check_arrays(batch)
    rows = len(batch.token_ids)
    _check_range("token_ids", batch.token_ids, vocab_size)
    _check_range("logit_rows", batch.logit_rows, rows)
    starts = batch.row_starts
    if not rows or starts[0] != 0 or starts[-1] != rows or np.any(np.diff(starts) <= 0):
        raise ValueError(f"row_starts do not divide the {rows} rows into sequences of one or more")
    for sequence in range(len(starts) - 1):
        _check_positions(sequence, batch.positions[starts[sequence] : starts[sequence + 1]])
    _check_blocks(batch, num_blocks)


def _check_arrays(batch: Batch) -> None:
    for name, dimensions in (
        ("token_ids", 1),
        ("positions", 1),
        ("row_starts", 1),
        ("block_tables", 2),
        ("logit_rows", 1),
    ):
        array = getattr(batch, name)
        if array.dtype != np.int32 or array.ndim != dimensions:
            raise ValueError(
                f"{name} is {array.dtype} with {array.ndim} axes, not int32 with {dimensions}"
            )
    if len(batch.positions) != len(batch.token_ids):
        raise ValueError(f"{len(batch.positions)} positions for {len(batch.token_ids)} token_ids")
    if len(batch.row_starts) != len(batch.block_tables) + 1:
        raise ValueError(
            f"{len(batch.row_starts)} row_starts for {len(batch.block_tables)} sequences"
        )


def _check_range(name: str, values: Int32Array, limit: int) -> None:
    bad = np.flatnonzero((values < 0) | (values >= limit))
    if len(bad):
        raise ValueError(f"{name}[{bad[0]}] is {values[bad[0]]}, outside 0 … {limit - 1}")


def _check_positions(sequence: int, positions: Int32Array) -> None:
    if positions[0] < 0 or np.any(np.diff(positions.astype(np.int64)) != 1):
        raise ValueError(f"the positions of sequence {sequence} are negative or not consecutive")


def _check_blocks(batch: Batch, num_blocks: int) -> None:
    """Every position has its block, and a block that is written to has one owner."""
    used: list[Int32Array] = []
    written: list[Int32Array] = []
    for sequence, table in enumerate(batch.block_tables):
        start, stop = batch.row_starts[sequence], batch.row_starts[sequence + 1]
        first = int(batch.positions[start]) // BLOCK_SIZE
        last = int(batch.positions[stop - 1]) // BLOCK_SIZE
        if last >= len(table):
            raise ValueError(f"block_tables[{sequence}] has {len(table)} of {last + 1} blocks")
        _check_range(f"block_tables[{sequence}]", table[: last + 1], num_blocks)
        used.append(table[: last + 1])
        written.append(table[first : last + 1])
    owners = np.bincount(np.concatenate(used), minlength=num_blocks)
    shared = [int(block) for block in np.concatenate(written) if owners[block] > 1]
    if shared:
        raise ValueError(f"block {shared[0]} is written to and used by more than one sequence")
