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
from lepton.models.executors.reference_layers import ReferenceLayers
from lepton.models.stages import Attention, Embed, GatedMlp, Head
from lepton.models.validation import expected_tensors

if TYPE_CHECKING:
    from lepton.models.loader import Network


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
        self._layers = ReferenceLayers(self._weights)
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
                    x = self._attend(stage, x, batch, sequences, next(caches))
                case GatedMlp():
                    x = self._layers.gated_mlp(stage, x)
                case Head():
                    wanted = self._layers.norm(stage.norm, x[batch.logit_rows])
                    x = self._layers.linear(stage.output, wanted)
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
        query, key, value = self._layers.heads(stage, x, batch.positions)
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
        return self._layers.attention_output(stage, x, mixed)


def _sequences(batch: Batch) -> list[_Sequence]:
    """The sequences of a checked batch."""
    bounds = pairwise(batch.row_starts.tolist())
    sequences = []
    for table, (start, stop) in zip(batch.block_tables, bounds, strict=True):
        length = int(batch.positions[stop - 1]) + 1
        blocks = table[: -(-length // BLOCK_SIZE)]
        sequences.append(_Sequence(slice(start, stop), blocks, length))
    return sequences
