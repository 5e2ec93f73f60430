"""How many blocks of KV cache, and so how long a context, fit in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lepton.engine.block_pool import blocks_for
from lepton.engine.config import EngineConfig
from lepton.errors import ConfigurationError
from lepton.models import executors
from lepton.models.executors import BLOCK_SIZE, CACHE_TYPES, Executor
from lepton.models.footprint import CACHE_SHARE
from lepton.telemetry.machine import inspect_machine

if TYPE_CHECKING:
    from lepton.models.loader import Model

logger = logging.getLogger(__name__)

_SMALLEST_CONTEXT = 256


@dataclass(frozen=True)
class CachePlan:
    """The size of the KV cache."""

    num_blocks: int
    context_length: int


def build_executor(model: Model, config: EngineConfig) -> tuple[Executor, int]:
    """The executor with a cache of the planned size, and the context length that fits it."""
    choice = config.executor
    cache_type = CACHE_TYPES[config.kv_dtype] if choice == "native" else "float32"
    block_bytes = executors.cache_bytes_per_block(model.config, cache_type)
    plan = plan_cache(config, model.config.context_length, block_bytes)
    if callable(choice):
        executor = choice(model, plan.num_blocks)
    else:
        executor = executors.build_executor(
            model,
            choice,
            num_blocks=plan.num_blocks,
            threads=config.threads,
            precision=config.precision,
            kv_dtype=config.kv_dtype,
            quantize=config.quantize,
        )
    return executor, min(plan.context_length, executor.num_blocks * BLOCK_SIZE)


def plan_cache(
    config: EngineConfig,
    model_context: int,
    block_bytes: int,
    available: int | None = None,
) -> CachePlan:
    """Blocks for ``max_sequences`` contexts, as far as the memory allowed goes.

    ``available`` is the machine's free memory in bytes, read when None. Raises ConfigurationError
    when the context asked for is longer than the model's or does not fit.
    """
    context = config.context_length or model_context
    if context > model_context:
        raise ConfigurationError(
            f"context_length {context} is beyond the {model_context} tokens the model knows"
        )
    allowed = config.cache_memory
    if allowed is None:
        free = inspect_machine().available_memory if available is None else available
        allowed = free // CACHE_SHARE
    num_blocks = min(config.max_sequences * blocks_for(context), allowed // block_bytes)
    if num_blocks >= blocks_for(context):
        return CachePlan(num_blocks, context)
    shortage = (
        f"{context} tokens of context take {blocks_for(context)} blocks of {block_bytes:,} bytes = "
        f"{blocks_for(context) * block_bytes:,} bytes of cache, but {allowed:,} bytes are allowed "
        f"({'cache_memory' if config.cache_memory else 'a quarter of the available memory'})"
    )
    fitting = num_blocks * BLOCK_SIZE
    if config.context_length is not None or fitting < min(_SMALLEST_CONTEXT, context):
        raise ConfigurationError(f"{shortage}: lower context_length or raise cache_memory")
    logger.warning("%s; the context is reduced to %d tokens", shortage, fitting)
    return CachePlan(num_blocks, fitting)
