"""Runs a model's stages on the native core."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from lepton.errors import ConfigurationError
from lepton.kernels import _native
from lepton.kernels.quants import TensorType
from lepton.models.executors.base import (
    CACHE_TYPES,
    Batch,
    Float32Array,
    KvDtype,
    Precision,
    Quantize,
    UInt8Array,
    check_choice,
)
from lepton.models.executors.packing import pack_matrix, packed_types
from lepton.models.stages import (
    Attention,
    Embed,
    GatedMlp,
    Head,
    Linear,
    Norm,
    RmsNorm,
    Rope,
    Stage,
)
from lepton.telemetry import log_event
from lepton.telemetry.machine import inspect_machine

if TYPE_CHECKING:
    from lepton.models.loader import Network

logger = logging.getLogger(__name__)

_MAX_THREADS = 1024


class NativeExecutor:
    """The executor users run: one native call per step, with the interpreter lock released.

    Weights are packed into panels once and are exactly those of the checkpoint, unless ``quantize``
    makes float ones smaller. Activations enter products with quantized weights as int8 in groups of
    32, in two planes (``exact``), or in one where rounding weighs little (``fast``). Keys and
    values are cached in bfloat16, or in int8 with a scale for each token and head. Where a few of
    the largest logits suffice, a Q8_0 head computes only those that may be among them.
    """

    def __init__(
        self,
        network: Network,
        *,
        num_blocks: int,
        threads: int = 0,
        precision: Precision = "exact",
        kv_dtype: KvDtype = "bf16",
        quantize: Quantize = "none",
        isa: str = "",
    ) -> None:
        """Pack the weights and reserve the cache.

        ``threads`` 0 means as many as affinity and control groups allow. ``isa`` forces an
        instruction set (otherwise LEPTON_ISA, otherwise the machine's best). Raises
        ConfigurationError when the machine cannot run it or an option is out of range.
        """
        check_choice("precision", precision, Precision)
        check_choice("kv_dtype", kv_dtype, KvDtype)
        check_choice("quantize", quantize, Quantize)
        if num_blocks < 1 or not 0 <= threads <= _MAX_THREADS:
            raise ConfigurationError(
                f"num_blocks ({num_blocks}) must be at least 1 and threads ({threads}) from 0 to "
                f"{_MAX_THREADS}"
            )
        started = time.perf_counter()
        self.threads = threads or inspect_machine().threads
        try:
            self.pool = pool = _native.ThreadPool(self.threads)
            program = _native.Program(
                pool, network.config.hidden_size, num_blocks, precision, CACHE_TYPES[kv_dtype], isa
            )
            builder = _Builder(program, pool, network, quantize)
            builder.add_stages(network.stages)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        except MemoryError:
            raise ConfigurationError(
                f"{network.path}: weights and a cache of {num_blocks} blocks do not fit in memory; "
                "choose a smaller model or less cache memory"
            ) from None
        network.checkpoint.release_pages()
        if quantize != "none" and not builder.quantized:
            logger.warning(
                "quantize %s changes nothing: the weights of %s are quantized already",
                quantize,
                network.path,
            )
        log_event(
            logger,
            logging.INFO,
            "loaded",
            model=str(network.path),
            isa=program.isa,
            threads=self.threads,
            precision=precision,
            kv_dtype=kv_dtype,
            quantize=quantize,
            weight_bytes=builder.weight_bytes,
            cache_bytes=num_blocks * program.bytes_per_block,
            seconds=round(time.perf_counter() - started, 3),
        )
        self._program: _native.Program | None = program

    @property
    def vocab_size(self) -> int:
        """Logits of one row."""
        return self._running().vocab_size

    @property
    def num_blocks(self) -> int:
        """Blocks in the KV cache."""
        return self._running().num_blocks

    @property
    def bytes_per_block(self) -> int:
        """Memory one block takes over all layers."""
        return self._running().bytes_per_block

    @property
    def cache(self) -> UInt8Array:
        """The cache's memory uint8 [num_blocks, bytes_per_block]; not to be kept after close()."""
        return self._running().cache

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._running().isa

    def forward(self, batch: Batch) -> Float32Array:
        """Logits float32 [wanted rows, vocab_size]; ValueError when the batch is inconsistent."""
        return self._running().forward(
            batch.token_ids,
            batch.positions,
            batch.row_starts,
            batch.block_tables,
            batch.logit_rows,
            batch.num_best,
        )

    def close(self) -> None:
        """Release weights and cache. Further calls raise ValueError."""
        self._program = None

    def _running(self) -> _native.Program:
        if self._program is None:
            raise ValueError("the executor is closed")
        return self._program


class _Builder:
    """Translates stages into the native program, packing each weight once."""

    def __init__(
        self,
        program: _native.Program,
        pool: _native.ThreadPool,
        network: Network,
        quantize: Quantize,
    ) -> None:
        self._program = program
        self._pool = pool
        self._checkpoint = network.checkpoint
        self._types = packed_types(network.stages, network.checkpoint.tensors, quantize)
        self._heads = {stage.output.weight for stage in network.stages if isinstance(stage, Head)}
        self._matrices: dict[str, _native.Matrix] = {}
        self._ropes: dict[Rope, int] = {}
        self.weight_bytes = 0
        self.quantized = False
        """Whether a matrix is kept in another type than the checkpoint's."""

    def add_stages(self, stages: tuple[Stage, ...]) -> None:
        for stage in stages:
            match stage:
                case Embed():
                    self._program.set_embedding(self._matrix(stage.weight), stage.scale)
                case Attention():
                    self._add_attention(stage)
                case GatedMlp():
                    self._program.add_gated_mlp(
                        norm=self._norm(stage.norm),
                        gate=self._linear(stage.gate),
                        up=self._linear(stage.up),
                        down=self._linear(stage.down),
                        gelu=stage.activation == "gelu_tanh",
                        post_norm=self._optional_norm(stage.post_norm),
                    )
                case Head():
                    self._program.set_head(self._norm(stage.norm), self._linear(stage.output))
                case _:
                    raise ConfigurationError(f"no decoder has {type(stage).__name__} stages")

    def _add_attention(self, stage: Attention) -> None:
        self._program.add_attention(
            norm=self._norm(stage.norm),
            query=self._linear(stage.query),
            key=self._linear(stage.key),
            value=self._linear(stage.value),
            output=self._linear(stage.output),
            num_heads=stage.num_heads,
            num_kv_heads=stage.num_kv_heads,
            head_dim=stage.head_dim,
            scale=stage.scale,
            rope=self._rope(stage.rope),
            window=stage.window or 0,
            query_norm=self._optional_norm(stage.query_norm),
            key_norm=self._optional_norm(stage.key_norm),
            post_norm=self._optional_norm(stage.post_norm),
        )

    def _rope(self, rope: Rope | None) -> int:
        if rope is None:
            raise ConfigurationError("decoders without rotary positions are not supported")
        if rope not in self._ropes:
            self._ropes[rope] = self._program.add_rope(
                list(rope.inverse_frequencies), rope.interleaved, rope.magnitude
            )
        return self._ropes[rope]

    def _matrix(self, name: str) -> _native.Matrix:
        if name not in self._matrices:
            kept = self._types[name]
            split = kept is TensorType.Q8_0 and name in self._heads
            matrix = pack_matrix(self._checkpoint, name, kept, self._pool, split=split)
            self._matrices[name] = matrix
            self.weight_bytes += matrix.nbytes
            self.quantized |= kept != self._checkpoint.info(name).type
        return self._matrices[name]

    def _linear(self, linear: Linear) -> _native.Linear:
        bias = [] if linear.bias is None else self._checkpoint.float32(linear.bias).tolist()
        return _native.Linear(self._matrix(linear.weight), bias)

    def _norm(self, norm: Norm | None) -> _native.Norm:
        if not isinstance(norm, RmsNorm):
            raise ConfigurationError("decoders with other norms than RMSNorm are not supported")
        weight = self._checkpoint.float32(norm.weight) + np.float32(norm.offset)
        return _native.Norm(weight.tolist(), norm.epsilon)

    def _optional_norm(self, norm: RmsNorm | None) -> _native.Norm | None:
        return None if norm is None else self._norm(norm)
