"""Runs an encoder's stages on the native core."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lepton.errors import ConfigurationError, ModelFormatError
from lepton.kernels import _native
from lepton.models.executors.base import Float32Array, Quantize
from lepton.models.executors.encoder_base import Dtype, EncoderBatch
from lepton.models.executors.encoder_packing import (
    EncoderTypes,
    choose_types,
    joined_linears,
    outputs_of,
)
from lepton.models.executors.packing import FLOAT_TYPES, pack_matrix
from lepton.models.stages import (
    Attention,
    Embed,
    FinalNorm,
    GatedMlp,
    Linear,
    Mlp,
    Norm,
    PoolingKind,
    RmsNorm,
    Rope,
    Stage,
    Table,
)
from lepton.telemetry import log_event
from lepton.telemetry.machine import inspect_machine

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderNetwork
    from lepton.models.weights import Checkpoint

logger = logging.getLogger(__name__)

_PIECE_BYTES = 8 << 20


class NativeEncoder:
    """The executor users run: one native call per batch, with the interpreter lock released.

    Weights are rounded to ``dtype`` when they are loaded, and so are states before each product;
    sums, norms and what is added from layer to layer are float32. In int16 a weight is a whole
    number times a scale for each output, a state one times a scale for each token; with
    ``quantize`` int8 a state is one times a scale plus a middle.
    """

    def __init__(
        self,
        network: EncoderNetwork,
        *,
        threads: int = 0,
        dtype: Dtype = "auto",
        quantize: Quantize = "none",
        isa: str = "",
    ) -> None:
        """Pack the weights. ``threads`` 0 means as many as affinity and control groups allow.

        Raises ConfigurationError when the machine or the model cannot do what is asked for, and
        ModelFormatError when a weight is not finite.
        """
        started = time.perf_counter()
        if quantize == "int4":
            raise ConfigurationError("encoders are not quantized to int4: choose int8 or none")
        self.threads = threads or inspect_machine().threads
        try:
            types = choose_types(dtype, quantize, isa)
            pool = _native.ThreadPool(self.threads)
            program = _native.EncoderProgram(pool, network.config.hidden_size, types.product, isa)
            builder = _Builder(program, pool, network, types)
            builder.add_stages()
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        except MemoryError:
            raise ConfigurationError(
                f"{network.path}: the weights do not fit in memory; choose a smaller model"
            ) from None
        network.checkpoint.release_pages()
        self._program: _native.EncoderProgram | None = program
        self._hidden_size = network.config.hidden_size
        self.weight_bytes = builder.weight_bytes
        log_event(
            logger,
            logging.INFO,
            "encoder loaded",
            isa=program.isa,
            threads=self.threads,
            dtype=types.product,
            weight_bytes=self.weight_bytes,
            seconds=round(time.perf_counter() - started, 3),
        )

    @property
    def hidden_size(self) -> int:
        """Columns of what ``forward`` returns."""
        return self._hidden_size

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._running().isa

    def forward(self, batch: EncoderBatch, pooling: PoolingKind | None) -> Float32Array:
        """States, pooled or not; see ``EncoderExecutor.forward``."""
        return self._running().forward(
            batch.token_ids, batch.row_starts, pooling, batch.kinds, batch.pool_starts
        )

    def close(self) -> None:
        """Release the weights. Further calls raise ValueError."""
        self._program = None

    def _running(self) -> _native.EncoderProgram:
        if self._program is None:
            raise ValueError("the executor is closed")
        return self._program


class _Builder:
    """Translates stages into the native program."""

    def __init__(
        self,
        program: _native.EncoderProgram,
        pool: _native.ThreadPool,
        network: EncoderNetwork,
        types: EncoderTypes,
    ) -> None:
        self._program = program
        self._pool = pool
        self._network = network
        self._checkpoint = network.checkpoint
        self._types = types
        self.weight_bytes = 0

    def add_stages(self) -> None:
        for stage in self._network.stages:
            match stage:
                case Embed():
                    self._add_embedding(stage)
                case Attention():
                    self._add_attention(stage)
                case Mlp():
                    up, down = self._matrices(stage)
                    self._program.add_mlp(
                        norm=self._norm(stage.norm),
                        up=up,
                        down=down,
                        activation=stage.activation,
                        gated=False,
                        post_norm=None,
                        residual_norm=self._norm(stage.residual_norm),
                    )
                case GatedMlp():
                    up, down = self._matrices(stage)
                    self._program.add_mlp(
                        norm=self._norm(stage.norm),
                        up=up,
                        down=down,
                        activation=stage.activation,
                        gated=True,
                        post_norm=self._norm(stage.post_norm),
                        residual_norm=None,
                    )
                case FinalNorm():
                    norm = self._norm(stage.norm)
                    assert norm is not None  # noqa: S101
                    self._program.set_final_norm(norm)

    def _add_embedding(self, stage: Embed) -> None:
        info = self._checkpoint.info(stage.weight)
        table: _native.VectorTable | None = None
        matrix: _native.Matrix | None = None
        if info.type in FLOAT_TYPES:
            table = _native.VectorTable(self._types.table, *info.shape)
            for first, rows in _float_rows(self._checkpoint, stage.weight):
                self._pack(stage.weight, first, rows, table, first)
            self.weight_bytes += table.nbytes
        else:
            matrix = pack_matrix(self._checkpoint, stage.weight, info.type, self._pool)
            self.weight_bytes += matrix.nbytes
        self._program.set_embedding(
            table=table,
            matrix=matrix,
            scale=stage.scale,
            positions=self._table(stage.positions),
            position_offset=stage.position_offset,
            kinds=self._table(stage.token_types),
            norm=self._norm(stage.norm),
        )

    def _add_attention(self, stage: Attention) -> None:
        joined, output = self._matrices(stage)
        self._program.add_attention(
            norm=self._norm(stage.norm),
            joined=joined,
            output=output,
            num_heads=stage.num_heads,
            num_kv_heads=stage.num_kv_heads,
            head_dim=stage.head_dim,
            scale=stage.scale,
            causal=stage.causal,
            window=stage.window or 0,
            rope=_rope(stage.rope),
            query_norm=self._norm(stage.query_norm),
            key_norm=self._norm(stage.key_norm),
            post_norm=self._norm(stage.post_norm),
            residual_norm=self._norm(stage.residual_norm),
        )

    def _matrices(self, stage: Stage) -> list[_native.DenseLinear]:
        return [self._joined(linears) for linears in joined_linears(stage)]

    def _joined(self, linears: Sequence[Linear]) -> _native.DenseLinear:
        sizes = [outputs_of(self._network, linear) for linear in linears]
        columns = self._checkpoint.info(linears[0].weight).shape[1]
        matrix = _native.DenseMatrix(self._types.product, sum(sizes), columns)
        first = 0
        for linear, size in zip(linears, sizes, strict=True):
            start = 0 if linear.part is None else linear.part.start
            for row, rows in _float_rows(self._checkpoint, linear.weight, start, start + size):
                self._pack(linear.weight, row, rows, matrix, first + row - start)
            first += size
        self.weight_bytes += matrix.nbytes
        return _native.DenseLinear(matrix, self._biases(linears, sizes))

    def _pack(
        self,
        name: str,
        row: int,
        rows: Float32Array,
        target: _native.DenseMatrix | _native.VectorTable,
        first: int,
    ) -> None:
        """Pack a tensor's ``rows`` from its row ``row`` on as rows ``first``, … of ``target``."""
        try:
            target.pack_rows(first, rows)
        except ValueError:
            damaged = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if not damaged.size:
                raise
            raise self._damage(name, f"row {row + damaged[0]} ") from None

    def _floats(self, name: str) -> Float32Array:
        """A small tensor as float32."""
        values = self._checkpoint.float32(name)
        if not np.isfinite(values).all():
            raise self._damage(name)
        return values

    def _damage(self, name: str, place: str = "") -> ModelFormatError:
        return ModelFormatError(
            f"{place}holds a number that is not finite: the file is damaged; download or export it "
            "again",
            file=self._checkpoint.path,
            tensor=name,
        )

    def _biases(self, linears: Sequence[Linear], sizes: Sequence[int]) -> Float32Array | None:
        if all(linear.bias is None for linear in linears):
            return None
        biases = []
        for linear, size in zip(linears, sizes, strict=True):
            if linear.bias is None:
                biases.append(np.zeros(size, np.float32))
                continue
            start = 0 if linear.part is None else linear.part.start
            biases.append(self._floats(linear.bias)[start : start + size])
        return np.concatenate(biases)

    def _table(self, table: Table | None) -> Float32Array | None:
        if table is None:
            return None
        return self._floats(table.weight).reshape(table.rows, -1)

    def _norm(self, norm: Norm | None) -> _native.EncoderNorm | None:
        if norm is None:
            return None
        weight = self._floats(norm.weight)
        if isinstance(norm, RmsNorm):
            return _native.EncoderNorm(weight + np.float32(norm.offset), None, norm.epsilon)
        bias = np.zeros_like(weight) if norm.bias is None else self._floats(norm.bias)
        return _native.EncoderNorm(weight, bias, norm.epsilon)


def _rope(rope: Rope | None) -> _native.EncoderRope | None:
    if rope is None:
        return None
    return _native.EncoderRope(list(rope.inverse_frequencies), rope.interleaved, rope.magnitude)


def _float_rows(
    checkpoint: Checkpoint, name: str, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, Float32Array]]:
    """Rows ``start`` … ``stop - 1`` of a matrix as float32, piece by piece, each with its first."""
    rows, columns = checkpoint.info(name).shape
    stop = rows if stop is None else stop
    count = max(1, _PIECE_BYTES // (4 * columns))
    for first in range(start, stop, count):
        yield first, checkpoint.float32_rows(name, first, min(stop, first + count))
        checkpoint.release_pages()
