"""Executors: what runs the stages of a model on one ragged batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lepton.models.executors.base import (
    BLOCK_SIZE,
    CACHE_TYPES,
    Batch,
    CacheType,
    Executor,
    KvDtype,
    Precision,
    Quantize,
    check_choice,
)

if TYPE_CHECKING:
    from lepton.models.config import ModelConfig
    from lepton.models.loader import Network

ExecutorKind = Literal["native", "reference"]

_ELEMENT_BYTES: dict[CacheType, int] = {"bfloat16": 2, "int8": 1, "float32": 4}
_SCALE_BYTES = 4

__all__ = [
    "BLOCK_SIZE",
    "CACHE_TYPES",
    "Batch",
    "CacheType",
    "Executor",
    "ExecutorKind",
    "KvDtype",
    "Precision",
    "Quantize",
    "build_executor",
    "cache_bytes_per_block",
    "cache_bytes_per_token",
    "check_choice",
]


def build_executor(
    network: Network,
    kind: ExecutorKind = "native",
    *,
    num_blocks: int,
    threads: int = 0,
    precision: Precision = "exact",
    kv_dtype: KvDtype = "bf16",
    quantize: Quantize = "none",
) -> Executor:
    """Load a network's weights into an executor with a KV cache of ``num_blocks``.

    All that follows is for the native executor; the reference computes in float32. ``threads`` 0
    stands for as many as this process may use.
    """
    if kind == "reference":
        from lepton.models.executors.reference import ReferenceExecutor

        return ReferenceExecutor(network, num_blocks=num_blocks)
    from lepton.models.executors.native import NativeExecutor

    return NativeExecutor(
        network,
        num_blocks=num_blocks,
        threads=threads,
        precision=precision,
        kv_dtype=kv_dtype,
        quantize=quantize,
    )


def cache_bytes_per_block(config: ModelConfig, cache_type: CacheType) -> int:
    """Bytes that the keys and values of BLOCK_SIZE tokens take over all layers."""
    return BLOCK_SIZE * cache_bytes_per_token(
        config.num_layers, config.num_kv_heads, config.head_dim, cache_type
    )


def cache_bytes_per_token(
    num_layers: int, num_kv_heads: int, head_dim: int, cache_type: CacheType
) -> int:
    """Bytes that one token's keys and values take over all layers.

    The native executor keeps the values of a head in whole vectors of 16, and with int8 a float32
    scale for the keys and one for the values of each head.
    """
    value_dim = head_dim if cache_type == "float32" else -(-head_dim // 16) * 16
    head_bytes = (head_dim + value_dim) * _ELEMENT_BYTES[cache_type]
    if cache_type == "int8":
        head_bytes += 2 * _SCALE_BYTES
    return num_layers * num_kv_heads * head_bytes
