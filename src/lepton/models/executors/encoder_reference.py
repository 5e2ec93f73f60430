"""The reference executor of encoders: numpy, float32, one stage after the other."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lepton.kernels import reference as kernels
from lepton.models.executors.base import Float32Array, Int32Array
from lepton.models.executors.encoder_base import EncoderBatch, pool
from lepton.models.executors.reference_layers import ReferenceLayers
from lepton.models.stages import Attention, Embed, FinalNorm, GatedMlp, Mlp, PoolingKind
from lepton.models.validation import expected_tensors

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderNetwork


class ReferenceEncoder:
    """Runs stages in float32 on weights that are dequantized when it is built."""

    def __init__(self, network: EncoderNetwork) -> None:
        self._config = network.config
        self._stages = network.stages
        self._weights = {
            name: network.checkpoint.float32(name)
            for name in expected_tensors(network.stages, network.config)
        }
        self._layers = ReferenceLayers(self._weights)

    @property
    def hidden_size(self) -> int:
        """Columns of what ``forward`` returns."""
        return self._config.hidden_size

    def forward(self, batch: EncoderBatch, pooling: PoolingKind | None) -> Float32Array:
        """States, pooled or not; see ``EncoderExecutor.forward``."""
        if not self._weights:
            raise ValueError("the executor is closed")
        check_encoder_batch(batch, self._config.vocab_size, self._config.context_length)
        lengths = np.diff(batch.row_starts)
        positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
        x = np.empty((0, 0), np.float32)
        for stage in self._stages:
            match stage:
                case Embed():
                    x = self._embed(stage, batch, positions)
                case Attention():
                    x = self._attend(stage, x, positions, batch.row_starts)
                case GatedMlp():
                    x = self._layers.gated_mlp(stage, x)
                case Mlp():
                    x = self._layers.mlp(stage, x)
                case FinalNorm():
                    x = self._layers.norm(stage.norm, x)
        return x if pooling is None else pool(x, batch, pooling)

    def close(self) -> None:
        """Release the weights. Further calls raise."""
        self._weights.clear()

    def _embed(self, stage: Embed, batch: EncoderBatch, positions: Int32Array) -> Float32Array:
        x = self._weights[stage.weight][batch.token_ids] * np.float32(stage.scale)
        if stage.positions is not None:
            x = x + self._weights[stage.positions.weight][positions + stage.position_offset]
        if stage.token_types is not None:
            kinds = np.zeros_like(batch.token_ids) if batch.kinds is None else batch.kinds
            table = self._weights[stage.token_types.weight]
            x = x + table.reshape(stage.token_types.rows, -1)[kinds]
        return self._layers.norm(stage.norm, x)

    def _attend(
        self, stage: Attention, x: Float32Array, positions: Int32Array, row_starts: Int32Array
    ) -> Float32Array:
        query, key, value = self._layers.heads(stage, x, positions)
        mixed = np.empty_like(query)
        for start, stop in pairwise(row_starts.tolist()):
            rows = slice(start, stop)
            mixed[rows] = kernels.attention(
                query[rows],
                key[rows],
                value[rows],
                positions[rows],
                scale=stage.scale,
                window=stage.window,
                causal=stage.causal,
            )
        return self._layers.attention_output(stage, x, mixed)


def check_encoder_batch(batch: EncoderBatch, vocab_size: int, context_length: int) -> None:
    """Raise ValueError, saying what and where, if a batch contradicts itself or its bounds."""
    rows, starts = len(batch.token_ids), batch.row_starts
    if not rows or starts[0] != 0 or starts[-1] != rows or np.any(np.diff(starts) <= 0):
        raise ValueError(f"row_starts do not divide the {rows} rows into texts of one or more")
    longest = int(np.diff(starts).max())
    if longest > context_length:
        raise ValueError(f"a text has {longest} tokens, the model has {context_length} positions")
    bad = np.flatnonzero((batch.token_ids < 0) | (batch.token_ids >= vocab_size))
    if len(bad):
        raise ValueError(
            f"token_ids[{bad[0]}] is {batch.token_ids[bad[0]]}, outside 0 … {vocab_size - 1}"
        )
