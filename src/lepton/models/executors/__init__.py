"""Executors: what runs the stages of a model on one ragged batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lepton.models.executors.base import BLOCK_SIZE, Batch, CacheType, Executor

if TYPE_CHECKING:
    from lepton.models.config import ModelConfig
    from lepton.models.loader import Network

ExecutorKind = Literal["native", "reference"]

CACHE_TYPES: dict[ExecutorKind, CacheType] = {"native": "bfloat16", "reference": "float32"}
"""How each executor stores keys and values."""

_ELEMENT_BYTES: dict[CacheType, int] = {"bfloat16": 2, "float32": 4}

__all__ = [
    "BLOCK_SIZE",
    "CACHE_TYPES",
    "Batch",
    "CacheType",
    "Executor",
    "ExecutorKind",
    "build_executor",
    "cache_bytes_per_block",
    "cache_bytes_per_token",
]


def build_executor(
    network: Network, kind: ExecutorKind = "native", *, num_blocks: int, threads: int = 0
) -> Executor:
    """Load a network's weights into an executor with a KV cache of ``num_blocks``.

    ``threads`` is for the native executor; 0 stands for as many as this process may use.
    """
    if kind == "reference":
        from lepton.models.executors.reference import ReferenceExecutor

        return ReferenceExecutor(network, num_blocks=num_blocks)
    from lepton.models.executors.native import NativeExecutor

    return NativeExecutor(network, num_blocks=num_blocks, threads=threads)


def cache_bytes_per_block(config: ModelConfig, cache_type: CacheType) -> int:
    """Bytes that the keys and values of BLOCK_SIZE tokens take over all layers."""
    return BLOCK_SIZE * cache_bytes_per_token(
        config.num_layers, config.num_kv_heads, config.head_dim, cache_type
    )


def cache_bytes_per_token(
    num_layers: int, num_kv_heads: int, head_dim: int, cache_type: CacheType
) -> int:
    """Bytes that one token's keys and values take over all layers.

    The native executor (bfloat16) keeps the values of a head in whole vectors of 16.
    """
    value_dim = -(-head_dim // 16) * 16 if cache_type == "bfloat16" else head_dim
    return num_layers * num_kv_heads * (head_dim + value_dim) * _ELEMENT_BYTES[cache_type]
