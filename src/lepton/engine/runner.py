"""From chunks of sequences to one call of the executor."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from lepton.engine.block_pool import BlockPool, blocks_for
from lepton.engine.step_plan import Chunk
from lepton.errors import EngineError
from lepton.models.executors.base import Batch, Executor, Float32Array


class ModelRunner:
    """Computes chunks of sequences, or pieces of anything, as a ragged batch."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def run(self, chunks: SequenceOf[Chunk], num_best: SequenceOf[int]) -> Float32Array:
        """Logits [rows, vocab], chunk after chunk; EngineError when their shape is wrong.

        Of each row of chunk c the ``num_best[c]`` largest are of interest; 0: all. Others may be
        the lowest finite float.
        """
        return self._forward(build_batch(chunks, num_best))

    def compute(self, pieces: SequenceOf[Piece], num_best: SequenceOf[int]) -> Float32Array:
        """The same of pieces."""
        return self._forward(lay_out(pieces, num_best))

    def logits(
        self, token_ids: SequenceOf[int], pool: BlockPool, max_step_tokens: int
    ) -> Float32Array:
        """Logits [len(token_ids), vocab] of a text of its own, in blocks borrowed from the pool."""
        blocks = pool.allocate(blocks_for(len(token_ids)))
        try:
            parts = []
            for start in range(0, len(token_ids), max_step_tokens):
                tokens = token_ids[start : start + max_step_tokens]
                parts.append(self.compute([Piece(tokens, start, blocks, len(tokens))], [0]))
        finally:
            pool.release(blocks)
        return np.concatenate(parts)

    def _forward(self, batch: Batch) -> Float32Array:
        logits = self.executor.forward(batch)
        expected = (len(batch.logit_rows), self.executor.vocab_size)
        if logits.shape != expected:
            raise EngineError(f"the executor returned logits {logits.shape}, not {expected}")
        return logits


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens that one sequence adds to a batch."""

    token_ids: SequenceOf[int]
    start: int
    """Position of the first token."""
    block_table: SequenceOf[int]
    """Of the whole sequence; what lies beyond the tokens is left out."""
    num_logits: int
    """How many of the last rows need logits."""


def build_batch(chunks: SequenceOf[Chunk], num_best: SequenceOf[int]) -> Batch:
    """The ragged batch of a step; chunk c is its sequence c. See ``ModelRunner.run``."""
    pieces = [
        Piece(
            [*chunk.sequence.token_ids[chunk.start : chunk.end], *chunk.draft],
            chunk.start,
            chunk.sequence.block_table,
            chunk.num_logits,
        )
        for chunk in chunks
    ]
    return lay_out(pieces, num_best)


def lay_out(pieces: SequenceOf[Piece], num_best: SequenceOf[int]) -> Batch:
    """The ragged batch of some pieces; of each row of piece p, ``num_best[p]`` logits matter."""
    token_ids: list[int] = []
    positions: list[int] = []
    row_starts = [0]
    logit_rows: list[int] = []
    tables = [
        piece.block_table[: blocks_for(piece.start + len(piece.token_ids))] for piece in pieces
    ]
    width = max(map(len, tables))
    blocks: list[int] = []
    for piece, table in zip(pieces, tables, strict=True):
        token_ids += piece.token_ids
        positions += range(piece.start, piece.start + len(piece.token_ids))
        row_starts.append(len(token_ids))
        logit_rows += range(len(token_ids) - piece.num_logits, len(token_ids))
        blocks += table
        blocks += [-1] * (width - len(table))
    return Batch(
        token_ids=np.array(token_ids, dtype=np.int32),
        positions=np.array(positions, dtype=np.int32),
        row_starts=np.array(row_starts, dtype=np.int32),
        block_tables=np.array(blocks, dtype=np.int32).reshape(len(pieces), width),
        logit_rows=np.array(logit_rows, dtype=np.int32),
        num_best=np.repeat(
            np.array(num_best, dtype=np.int32), [piece.num_logits for piece in pieces]
        ),
    )
