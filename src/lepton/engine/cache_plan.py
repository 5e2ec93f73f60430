"""How many blocks of KV cache, and so how long a context, fit in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lepton.engine.block_pool import blocks_for
from lepton.engine.block_spill import MOST_UNWRITTEN
from lepton.engine.config import EngineConfig
from lepton.errors import ConfigurationError
from lepton.models import executors
from lepton.models.executors import BLOCK_SIZE, CACHE_TYPES, Executor
from lepton.models.footprint import CACHE_SHARE
from lepton.models.summary import footprint
from lepton.telemetry.machine import Machine, inspect_machine

if TYPE_CHECKING:
    from lepton.models.loader import Model

logger = logging.getLogger(__name__)

_SMALLEST_CONTEXT = 256
WORKING_BYTES = 64 * 2**20
"""Activations of a step, log probabilities of prompts, and what the loop itself needs."""
_LOGIT_BYTES = 4

_DRAFT_CONTEXTS, _DRAFT_SHARE = 4, 8
"""A draft model gets a cache of so many full contexts, at most one part in so many of the cache's
memory."""


@dataclass(frozen=True)
class CachePlan:
    """The size of the KV cache."""

    num_blocks: int
    context_length: int


@dataclass(frozen=True)
class BuiltExecutors:
    """Executors with caches of the planned sizes."""

    main: Executor
    context_length: int
    """What fits the cache of the model."""
    draft: Executor | None


def build_executors(model: Model, config: EngineConfig, draft: Model | None) -> BuiltExecutors:
    """The executors of a model and of the one that drafts for it.

    Raises ConfigurationError as ``plan_cache`` does.
    """
    machine = inspect_machine()
    block_bytes = _block_bytes(model, config)
    weight_bytes = _weight_bytes(model, config)
    working_bytes = _working_bytes(config, model.config.vocab_size, block_bytes)
    draft_blocks = 0
    if draft is not None:
        draft_block_bytes = _block_bytes(draft, config)
        draft_blocks = plan_draft_blocks(
            config, draft.config.context_length, draft_block_bytes, machine
        )
        weight_bytes += _weight_bytes(draft, config) + draft_blocks * draft_block_bytes
        working_bytes += WORKING_BYTES
    plan = plan_cache(
        config, model.config.context_length, block_bytes, weight_bytes, working_bytes, machine
    )
    main = _build(model, config, plan.num_blocks)
    return BuiltExecutors(
        main,
        min(plan.context_length, main.num_blocks * BLOCK_SIZE),
        None if draft is None else _build(draft, config, draft_blocks),
    )


def plan_draft_blocks(
    config: EngineConfig, model_context: int, block_bytes: int, machine: Machine
) -> int:
    """Blocks for the few sequences that speculation pays for; at least the smallest context."""
    context = min(config.context_length or model_context, model_context)
    allowed = config.cache_memory or machine.available_memory // CACHE_SHARE
    wanted = min(_DRAFT_CONTEXTS, config.max_sequences) * blocks_for(context)
    least = blocks_for(min(_SMALLEST_CONTEXT, context))
    return max(least, min(wanted, allowed // _DRAFT_SHARE // block_bytes))


def _block_bytes(model: Model, config: EngineConfig) -> int:
    native = config.executor == "native"
    cache_type = CACHE_TYPES[config.kv_dtype] if native else "float32"
    return executors.cache_bytes_per_block(model.config, cache_type)


def _weight_bytes(model: Model, config: EngineConfig) -> int:
    """Bytes of packed weights; 0 where nobody knows."""
    if config.executor != "native":
        return 0
    return footprint(model.checkpoint, model.config, config.quantize, config.kv_dtype).weights


def _working_bytes(config: EngineConfig, vocab_size: int, block_bytes: int) -> int:
    """What a step needs beside weights and cache; 0 where nobody knows.

    A row of logits for each sequence and one more, and the blocks that wait for the disk.
    """
    if config.executor != "native":
        return 0
    logits = (config.max_sequences + 1) * vocab_size * _LOGIT_BYTES
    unwritten = 0 if config.cache_spill is None else MOST_UNWRITTEN * block_bytes
    return WORKING_BYTES + logits + unwritten


def _build(model: Model, config: EngineConfig, num_blocks: int) -> Executor:
    choice = config.executor
    if callable(choice):
        return choice(model, num_blocks)
    return executors.build_executor(
        model,
        choice,
        num_blocks=num_blocks,
        threads=config.threads,
        precision=config.precision,
        kv_dtype=config.kv_dtype,
        quantize=config.quantize,
    )


def plan_cache(
    config: EngineConfig,
    model_context: int,
    block_bytes: int,
    weight_bytes: int = 0,
    working_bytes: int = 0,
    machine: Machine | None = None,
) -> CachePlan:
    """Blocks for ``max_sequences`` contexts, as far as the memory allowed goes.

    ``weight_bytes`` and ``working_bytes`` are still to be taken beside the cache, and what
    ``config`` reserves for other models. Raises ConfigurationError, with the sum, when the context
    asked for is longer than the model's or when all that does not fit into the memory that
    ``machine`` (this one) and its control group leave.
    """
    context = config.context_length or model_context
    if context > model_context:
        raise ConfigurationError(
            f"context_length {context} is beyond the {model_context} tokens the model knows"
        )
    machine = machine or inspect_machine()
    others = weight_bytes + working_bytes + config.reserved_memory
    room = machine.available_memory - others
    allowed = config.cache_memory or min(machine.available_memory // CACHE_SHARE, max(0, room))
    num_blocks = min(_wanted_blocks(config, context), allowed // block_bytes)
    if num_blocks * block_bytes > max(0, room) or room <= 0:
        raise ConfigurationError(
            f"{_sum(weight_bytes, working_bytes, num_blocks * block_bytes, config)}, but "
            f"{available_text(machine)}: lower "
            "cache_memory, context_length or max_sequences, choose a smaller model, or give the "
            "process more memory"
        )
    if num_blocks >= blocks_for(context):
        return CachePlan(num_blocks, context)
    shortage = (
        f"{context} tokens of context take {blocks_for(context)} blocks of {block_bytes:,} bytes = "
        f"{blocks_for(context) * block_bytes:,} bytes of cache, but {allowed:,} bytes are allowed "
        f"({'cache_memory' if config.cache_memory else 'a quarter of the available memory'})"
    )
    fitting = num_blocks * BLOCK_SIZE
    if config.context_length is not None or fitting < min(_SMALLEST_CONTEXT, context):
        raise ConfigurationError(
            f"{shortage}; {available_text(machine)}: lower context_length or raise cache_memory"
        )
    logger.warning("%s; the context is reduced to %d tokens", shortage, fitting)
    return CachePlan(num_blocks, fitting)


def _wanted_blocks(config: EngineConfig, context: int) -> int:
    """Blocks that are of use where memory does not matter."""
    if config.cache_memory is not None or config.sequence_tokens is None:
        return config.max_sequences * blocks_for(context)
    each = blocks_for(min(context, config.sequence_tokens))
    return max(blocks_for(context), config.max_sequences * each)


def _sum(weight_bytes: int, working_bytes: int, cache_bytes: int, config: EngineConfig) -> str:
    reserved = config.reserved_memory
    others = f" + {reserved:,} for other models" if reserved else ""
    return (
        f"{weight_bytes:,} bytes of weights + {working_bytes:,} to work with + "
        f"{cache_bytes:,} of cache{others} = "
        f"{weight_bytes + working_bytes + cache_bytes + reserved:,} bytes"
    )


def available_text(machine: Machine) -> str:
    """What is free, and the limit that leaves no more."""
    group = machine.cgroup_memory_available
    if group is not None and group == machine.available_memory:
        limit = machine.cgroup_memory_limit or 0
        return f"{group:,} bytes are free of the control group's limit of {limit:,}"
    return f"{machine.available_memory:,} bytes of the machine's {machine.memory_total:,} are free"
