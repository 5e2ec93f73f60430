"""From chunks of sequences to one call of the executor."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

from lepton.engine.block_pool import BlockPool, blocks_for
from lepton.engine.step_plan import Chunk
from lepton.errors import EngineError
from lepton.models.executors.base import Batch, Executor, Float32Array


class ModelRunner:
    """Lays chunks out as a ragged batch."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def run(self, chunks: SequenceOf[Chunk], num_best: SequenceOf[int]) -> Float32Array:
        """Logits [rows, vocab], chunk after chunk; EngineError when their shape is wrong.

        Of each row of chunk c the ``num_best[c]`` largest are of interest; 0: all. Others may be
        the lowest finite float.
        """
        return self._forward(build_batch(chunks, num_best))

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


def build_batch(chunks: SequenceOf[Chunk], num_best: SequenceOf[int]) -> Batch:
    """The ragged batch of a step; chunk c is its sequence c. See ``ModelRunner.run``."""
    token_ids: list[int] = []
    positions: list[int] = []
    row_starts = [0]
    logit_rows: list[int] = []
    tables = [
        chunk.sequence.block_table[: blocks_for(chunk.start + chunk.num_rows)] for chunk in chunks
    ]
    width = max(map(len, tables))
    blocks: list[int] = []
    for chunk, table in zip(chunks, tables, strict=True):
        token_ids += chunk.sequence.token_ids[chunk.start : chunk.end]
        token_ids += chunk.draft
        positions += range(chunk.start, chunk.start + chunk.num_rows)
        row_starts.append(len(token_ids))
        logit_rows += range(len(token_ids) - chunk.num_logits, len(token_ids))
        blocks += table
        blocks += [-1] * (width - len(table))
    return Batch(
        token_ids=np.array(token_ids, dtype=np.int32),
        positions=np.array(positions, dtype=np.int32),
        row_starts=np.array(row_starts, dtype=np.int32),
        block_tables=np.array(blocks, dtype=np.int32).reshape(len(chunks), width),
        logit_rows=np.array(logit_rows, dtype=np.int32),
        num_best=np.repeat(
            np.array(num_best, dtype=np.int32), [chunk.num_logits for chunk in chunks]
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
