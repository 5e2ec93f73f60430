"""The contract between the engine and an executor of encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from lepton.models.executors.base import Float32Array, Int32Array
from lepton.models.stages import PoolingKind

Dtype = Literal["auto", "float32", "bfloat16", "int16"]
"""What float weights and states are multiplied in; ``auto`` is bfloat16 where the machine has
instructions for it, and int16 elsewhere: whole numbers with a scale for each output and token,
closer to float32 than bfloat16."""


@dataclass(frozen=True)
class EncoderBatch:
    """Whole texts, laid end to end without padding.

    Text ``t`` owns rows ``row_starts[t]`` … ``row_starts[t + 1] - 1``, at least one.
    """

    token_ids: Int32Array
    """[rows]"""
    row_starts: Int32Array
    """[texts + 1]"""
    kinds: Int32Array | None = None
    """[rows], the row of the table of token types for each token; None: all 0"""
    pool_starts: Int32Array | None = None
    """[texts], tokens at the beginning of each text that pooling leaves out; None: all 0"""


class EncoderExecutor(Protocol):
    """Runs an encoder's stages. Not thread-safe: one caller at a time."""

    @property
    def hidden_size(self) -> int:
        """Columns of what ``forward`` returns."""

    def forward(self, batch: EncoderBatch, pooling: PoolingKind | None) -> Float32Array:
        """States float32 [rows, hidden], or one [texts, hidden] for each text, pooled.

        Raises ValueError when the batch is inconsistent (an id outside the vocabulary, a text
        longer than the model has positions for).
        """

    def close(self) -> None:
        """Release the weights. Further calls raise ValueError."""


def pool(states: Float32Array, batch: EncoderBatch, pooling: PoolingKind) -> Float32Array:
    """States [rows, hidden] of whole texts to one [texts, hidden] each, in numpy."""
    pooled = np.empty((len(batch.row_starts) - 1, states.shape[1]), np.float32)
    for text in range(len(pooled)):
        skipped = 0 if batch.pool_starts is None else int(batch.pool_starts[text])
        rows = states[batch.row_starts[text] + skipped : batch.row_starts[text + 1]]
        match pooling:
            case "mean":
                pooled[text] = rows.mean(axis=0)
            case "cls":
                pooled[text] = rows[0]
            case "last":
                pooled[text] = rows[-1]
            case "max":
                pooled[text] = rows.max(axis=0)
            case "weighted":
                weights = np.arange(skipped + 1, skipped + len(rows) + 1, dtype=np.float32)
                pooled[text] = weights @ rows / weights.sum()
    return pooled
