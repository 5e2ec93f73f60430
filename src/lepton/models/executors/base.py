"""The contract between the engine and an executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from lepton.errors import ConfigurationError

BLOCK_SIZE = 16
"""Tokens in one block of the KV cache."""

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
CacheType = Literal["bfloat16", "int8", "float32"]
"""How keys and values are stored."""

Precision = Literal["exact", "fast"]
"""How exactly activations enter products: as two planes of int8 (about 16 bits), or as one, and two
where rounding would weigh most; then a bf16 cache also rounds queries and softmax weights."""
KvDtype = Literal["bf16", "int8"]
"""The user's choice of how the native executor stores keys and values."""
CACHE_TYPES: dict[KvDtype, CacheType] = {"bf16": "bfloat16", "int8": "int8"}
"""How the native executor stores keys and values; the reference takes float32."""
Quantize = Literal["none", "int8", "int4"]
"""What float weights become when they are loaded; quantized ones always stay as they are."""


def check_choice(name: str, value: object, choices: object) -> None:
    """Raise ConfigurationError unless ``value`` is one of a Literal's ``choices``."""
    *others, last = map(repr, get_args(choices))
    if repr(value) not in (*others, last):
        raise ConfigurationError(f"{name} must be {', '.join(others)} or {last}, not {value!r}")


@dataclass(frozen=True)
class Batch:
    """One ragged step: the new tokens of several sequences, laid end to end.

    Sequence ``s`` owns rows ``row_starts[s]`` … ``row_starts[s + 1] - 1``, at least one. Its rows
    hold consecutive positions, and when the step ends its cache holds every position up to the last
    one. Position p of a sequence lives in block ``block_tables[s, p // BLOCK_SIZE]`` at slot
    ``p % BLOCK_SIZE``; unused table entries are -1. A block may appear in the tables of several
    sequences as long as no row of this step writes to it. The arrays must not change while a step
    runs.
    """

    token_ids: Int32Array
    """[rows]"""
    positions: Int32Array
    """[rows], zero-based position of each row's token in its sequence"""
    row_starts: Int32Array
    """[sequences + 1]"""
    block_tables: Int32Array
    """[sequences, blocks]"""
    logit_rows: Int32Array
    """[wanted], the rows whose logits are computed"""
    num_best: Int32Array | None = None
    """[wanted], how many of a row's largest logits (and all that equal the last of them) are of
    interest; 0 or None: all. An executor may return the lowest finite float for any other."""


class Executor(Protocol):
    """Runs a model's stages and owns its KV cache. Not thread-safe: one caller at a time."""

    @property
    def vocab_size(self) -> int:
        """Logits of one row."""

    @property
    def num_blocks(self) -> int:
        """Blocks in the KV cache."""

    @property
    def bytes_per_block(self) -> int:
        """Memory one block takes over all layers."""

    def forward(self, batch: Batch) -> Float32Array:
        """Logits float32 [len(batch.logit_rows), vocab_size].

        Raises ValueError when the batch is inconsistent (an id outside the vocabulary, a block or
        row out of range); nothing is written to the cache then.
        """

    def close(self) -> None:
        """Release weights and cache. Further calls raise ValueError."""
