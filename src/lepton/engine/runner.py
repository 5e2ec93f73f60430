"""From chunks of sequences to one call of the executor."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

from lepton.engine.block_pool import BlockPool, blocks_for
from lepton.engine.scheduler import Chunk
from lepton.errors import EngineError
from lepton.models.executors.base import Batch, Executor, Float32Array


class ModelRunner:
    """Lays chunks out as a ragged batch and hands the logits back chunk by chunk."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def run(self, chunks: SequenceOf[Chunk]) -> list[Float32Array]:
        """Logits [chunk.num_logits, vocab] of each chunk; EngineError when their shape is wrong."""
        logits = self._forward(build_batch(chunks))
        ends = np.cumsum([chunk.num_logits for chunk in chunks])
        return np.split(logits, ends[:-1])

    def logits(
        self, token_ids: SequenceOf[int], pool: BlockPool, max_step_tokens: int
    ) -> Float32Array:
        """Logits [len(token_ids), vocab] of a text of its own, in blocks borrowed from the pool."""
        blocks = pool.allocate(blocks_for(len(token_ids)))
        try:
            parts = [
                self._forward(_single(token_ids, blocks, start, max_step_tokens))
                for start in range(0, len(token_ids), max_step_tokens)
            ]
        finally:
            pool.release(blocks)
        return np.concatenate(parts)

    def _forward(self, batch: Batch) -> Float32Array:
        logits = self.executor.forward(batch)
        expected = (len(batch.logit_rows), self.executor.vocab_size)
        if logits.shape != expected:
            raise EngineError(f"the executor returned logits {logits.shape}, not {expected}")
        return logits


def build_batch(chunks: SequenceOf[Chunk]) -> Batch:
    """The ragged batch of a step; chunk c is its sequence c."""
    counts = [chunk.count for chunk in chunks]
    row_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    tables = [chunk.sequence.block_table[: blocks_for(chunk.end)] for chunk in chunks]
    block_tables = np.full((len(chunks), max(map(len, tables))), -1, dtype=np.int32)
    for row, table in zip(block_tables, tables, strict=True):
        row[: len(table)] = table
    return Batch(
        token_ids=_concatenate(
            [chunk.sequence.token_ids[chunk.start : chunk.end] for chunk in chunks]
        ),
        positions=_concatenate([range(chunk.start, chunk.end) for chunk in chunks]),
        row_starts=row_starts,
        block_tables=block_tables,
        logit_rows=_concatenate(
            [
                range(end - chunk.num_logits, end)
                for chunk, end in zip(chunks, row_starts[1:].tolist(), strict=True)
            ]
        ),
    )


def _single(token_ids: SequenceOf[int], blocks: list[int], start: int, limit: int) -> Batch:
    part = token_ids[start : start + limit]
    rows = np.arange(len(part), dtype=np.int32)
    return Batch(
        token_ids=np.array(part, dtype=np.int32),
        positions=rows + np.int32(start),
        row_starts=np.array([0, len(part)], dtype=np.int32),
        block_tables=np.array([blocks[: blocks_for(start + len(part))]], dtype=np.int32),
        logit_rows=rows,
    )


def _concatenate(parts: SequenceOf[SequenceOf[int]]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])
