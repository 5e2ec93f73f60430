"""Running token sequences through an executor, as the engine does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from lepton.models.executors import BLOCK_SIZE, Batch, Executor


class Runner:
    """Feeds sequences to an executor in pieces, each with blocks in a random order.

    ``step`` takes the number of new tokens of each sequence and returns the logits of all of them.
    """

    def __init__(
        self, executor: Executor, sequences: Sequence[Sequence[int]], seed: int = 0
    ) -> None:
        self.executor = executor
        self.sequences = sequences
        self.done = [0] * len(sequences)
        free = np.random.default_rng(seed).permutation(executor.num_blocks).astype(np.int32)
        counts = [-(-len(sequence) // BLOCK_SIZE) for sequence in sequences]
        assert sum(counts) <= len(free), "the test's cache is too small"
        self.tables = np.full((len(sequences), max(counts)), -1, np.int32)
        for table, count in zip(self.tables, counts, strict=True):
            table[:count], free = free[:count], free[count:]

    def batch(self, counts: Sequence[int]) -> Batch:
        """The next step, sequences with a count of 0 left out."""
        chosen = [index for index, count in enumerate(counts) if count]
        pieces = [range(self.done[index], self.done[index] + counts[index]) for index in chosen]
        tokens = [
            self.sequences[index][position]
            for index, piece in zip(chosen, pieces, strict=True)
            for position in piece
        ]
        return Batch(
            token_ids=np.array(tokens, np.int32),
            positions=np.concatenate([np.array(piece, np.int32) for piece in pieces]),
            row_starts=np.cumsum([0, *map(len, pieces)]).astype(np.int32),
            block_tables=self.tables[chosen],
            logit_rows=np.arange(len(tokens), dtype=np.int32),
        )

    def step(self, counts: Sequence[int]) -> list[np.ndarray]:
        """Logits [count, vocab] of each sequence's new tokens."""
        batch = self.batch(counts)
        logits = self.executor.forward(batch)
        assert logits.dtype == np.float32
        assert logits.shape == (len(batch.token_ids), self.executor.vocab_size)
        self.done = [done + count for done, count in zip(self.done, counts, strict=True)]
        return np.split(logits, np.cumsum(counts)[:-1])

    def run(self, pieces: Callable[[int, int], int]) -> list[np.ndarray]:
        """All logits of all sequences; ``pieces`` gives, for (sequence, tokens left), how many."""
        parts: list[list[np.ndarray]] = [[] for _ in self.sequences]
        while True:
            left = [len(s) - done for s, done in zip(self.sequences, self.done, strict=True)]
            if not any(left):
                return [np.concatenate(part) for part in parts]
            counts = [min(n, pieces(index, n)) if n else 0 for index, n in enumerate(left)]
            if any(counts):
                for part, logits in zip(parts, self.step(counts), strict=True):
                    part.append(logits)


@pytest.fixture(scope="session")
def runner() -> type[Runner]:
    return Runner
