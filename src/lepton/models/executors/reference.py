"""The reference executor: numpy, float32, one stage after the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lepton.kernels import reference as kernels
from lepton.models.executors.base import BLOCK_SIZE, Batch, CacheType, Float32Array
from lepton.models.executors.batch_check import check_batch
from lepton.models.stages import Attention, Embed, GatedMlp, Head, Linear, RmsNorm
from lepton.models.validation import expected_tensors

if TYPE_CHECKING:
    from lepton.models.loader import Network

_ACTIVATIONS = {"silu": kernels.silu, "gelu_tanh": kernels.gelu_tanh}


@dataclass(frozen=True)
class _Sequence:
    """Where one sequence of a batch lies: its rows, and its blocks up to the last position."""

    rows: slice
    blocks: npt.NDArray[np.int32]
    length: int


class ReferenceExecutor:
    """Runs stages in float32 on weights that are dequantized when it is built.

    With a ``bfloat16`` cache, keys and values are rounded as the native executor rounds them.
    """

    def __init__(
        self, network: Network, *, num_blocks: int, cache_type: CacheType = "float32"
    ) -> None:
        self._config = network.config
        self._stages = network.stages
        self._num_blocks = num_blocks
        self._cache_type = cache_type
        self._weights = {
            name: network.checkpoint.float32(name)
            for name in expected_tensors(network.stages, network.config)
        }
        attentions = [stage for stage in network.stages if isinstance(stage, Attention)]
        # [key or value, block, slot, head, element] of each attention stage
        self._caches = [
            np.zeros((2, num_blocks, BLOCK_SIZE, stage.num_kv_heads, stage.head_dim), np.float32)
            for stage in attentions
        ]

    @property
    def vocab_size(self) -> int:
        """Columns of the logits."""
        return self._config.vocab_size

    @property
    def num_blocks(self) -> int:
        """Blocks in the KV cache."""
        return self._num_blocks

    @property
    def bytes_per_block(self) -> int:
        """Memory one block takes over all layers."""
        return sum(cache[:, :1].nbytes for cache in self._caches)

    def forward(self, batch: Batch) -> Float32Array:
        """Logits float32 [len(batch.logit_rows), vocab_size]; see ``Executor.forward``."""
        if not self._caches:
            raise ValueError("the executor is closed")
        check_batch(batch, vocab_size=self.vocab_size, num_blocks=self.num_blocks)
        sequences = _sequences(batch)
        caches = iter(self._caches)
        x = np.empty((len(batch.token_ids), self._config.hidden_size), np.float32)
        for stage in self._stages:
            match stage:
                case Embed():
                    x = self._weights[stage.weight][batch.token_ids] * np.float32(stage.scale)
                case Attention():
                    x = x + self._attend(stage, x, batch, sequences, next(caches))
                case GatedMlp():
                    x = x + self._mix(stage, x)
                case Head():
                    x = self._linear(stage.output, self._norm(stage.norm, x[batch.logit_rows]))
        return x

    def close(self) -> None:
        """Release weights and cache. Further calls raise."""
        self._weights.clear()
        self._caches.clear()

    def _attend(
        self,
        stage: Attention,
        x: Float32Array,
        batch: Batch,
        sequences: list[_Sequence],
        cache: Float32Array,
    ) -> Float32Array:
        rows = len(x)
        hidden = self._norm(stage.norm, x)
        query = self._linear(stage.query, hidden).reshape(rows, stage.num_heads, -1)
        key = self._linear(stage.key, hidden).reshape(rows, stage.num_kv_heads, -1)
        value = self._linear(stage.value, hidden).reshape(rows, stage.num_kv_heads, -1)
        query = self._rotate(stage, self._norm(stage.query_norm, query), batch)
        key = self._rotate(stage, self._norm(stage.key_norm, key), batch)
        if self._cache_type == "bfloat16":
            key, value = kernels.round_to_bfloat16(key), kernels.round_to_bfloat16(value)
        mixed = np.empty_like(query)
        for sequence in sequences:
            positions = batch.positions[sequence.rows]
            blocks, slots = sequence.blocks[positions // BLOCK_SIZE], positions % BLOCK_SIZE
            cache[0, blocks, slots] = key[sequence.rows]
            cache[1, blocks, slots] = value[sequence.rows]
            keys, values = cache[:, sequence.blocks].reshape(2, -1, *key.shape[1:])
            mixed[sequence.rows] = kernels.attention(
                query[sequence.rows],
                keys[: sequence.length],
                values[: sequence.length],
                positions,
                scale=stage.scale,
                window=stage.window,
            )
        return self._norm(stage.post_norm, self._linear(stage.output, mixed.reshape(rows, -1)))

    def _mix(self, stage: GatedMlp, x: Float32Array) -> Float32Array:
        hidden = self._norm(stage.norm, x)
        gate = _ACTIVATIONS[stage.activation](self._linear(stage.gate, hidden))
        mixed = gate * self._linear(stage.up, hidden)
        return self._norm(stage.post_norm, self._linear(stage.down, mixed))

    def _rotate(self, stage: Attention, x: Float32Array, batch: Batch) -> Float32Array:
        return kernels.rotate(
            x,
            batch.positions,
            np.asarray(stage.rope.inverse_frequencies, dtype=np.float32),
            interleaved=stage.rope.interleaved,
            magnitude=stage.rope.magnitude,
        )

    def _norm(self, norm: RmsNorm | None, x: Float32Array) -> Float32Array:
        if norm is None:
            return x
        return kernels.rms_norm(x, self._weights[norm.weight], norm.epsilon, norm.offset)

    def _linear(self, linear: Linear, x: Float32Array) -> Float32Array:
        bias = None if linear.bias is None else self._weights[linear.bias]
        return kernels.linear(x, self._weights[linear.weight], bias)


def _sequences(batch: Batch) -> list[_Sequence]:
    """The sequences of a checked batch."""
    bounds = pairwise(batch.row_starts.tolist())
    sequences = []
    for table, (start, stop) in zip(batch.block_tables, bounds, strict=True):
        length = int(batch.positions[stop - 1]) + 1
        blocks = table[: -(-length // BLOCK_SIZE)]
        sequences.append(_Sequence(slice(start, stop), blocks, length))
    return sequences
