from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lepton.engine.cache_plan import (
    WORKING_BYTES,
    build_executors,
    plan_cache,
    plan_draft_blocks,
)
from lepton.engine.config import EngineConfig
from lepton.errors import ConfigurationError
from lepton.models.loader import load_model
from lepton.telemetry.machine import Machine, inspect_machine

BLOCK = 1000


def machine(free: int, limit: int | None = None) -> Machine:
    """One with so much memory free, of a control group's limit if there is one."""
    known = inspect_machine()
    return replace(
        known,
        memory_available=free if limit is None else 1 << 40,
        memory_total=1 << 40,
        cgroup_memory_limit=limit,
        cgroup_memory_available=None if limit is None else free,
    )


def test_enough_for_every_sequence_when_memory_allows() -> None:
    plan = plan_cache(EngineConfig(max_sequences=4), 1000, BLOCK, machine=machine(10**9))
    assert (plan.num_blocks, plan.context_length) == (4 * 63, 1000)


def test_a_quarter_of_memory_at_most() -> None:
    plan = plan_cache(EngineConfig(), 1000, BLOCK, machine=machine(400_000))
    assert (plan.num_blocks, plan.context_length) == (100, 1000)


def test_cache_memory_is_kept_to() -> None:
    plan = plan_cache(EngineConfig(cache_memory=70_999), 1000, BLOCK, machine=machine(71_000))
    assert plan.num_blocks == 70


def test_default_context_is_reduced_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        plan = plan_cache(EngineConfig(cache_memory=40 * BLOCK), 1000, BLOCK)
    assert (plan.num_blocks, plan.context_length) == (40, 640)
    assert "reduced to 640 tokens" in caplog.text


def test_a_context_asked_for_is_not_reduced() -> None:
    config = EngineConfig(cache_memory=40 * BLOCK, context_length=1000)
    with pytest.raises(
        ConfigurationError, match=r"63 blocks of 1,000 bytes = 63,000 bytes.*40,000"
    ):
        plan_cache(config, 2000, BLOCK)


def test_a_useless_context_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a quarter of the available memory"):
        plan_cache(EngineConfig(), 1000, BLOCK, machine=machine(4 * 15 * BLOCK))


def test_weights_and_cache_must_fit_together() -> None:
    limit = 500 * 2**20
    config = EngineConfig(cache_memory=200 * 2**20, max_sequences=400)
    free = machine(300 * 2**20, limit)
    plan = plan_cache(config, 10_000, BLOCK, 30 * 2**20, 64 * 2**20, free)
    assert plan.num_blocks == 200 * 2**20 // BLOCK
    with pytest.raises(ConfigurationError) as caught:
        plan_cache(config, 10_000, BLOCK, 100 * 2**20, 64 * 2**20, free)
    cache = 200 * 2**20 // BLOCK * BLOCK
    assert (
        f"{100 * 2**20:,} bytes of weights + {64 * 2**20:,} to work with + {cache:,} of cache = "
        f"{164 * 2**20 + cache:,} bytes, but {300 * 2**20:,} bytes are free of the control group's "
        f"limit of {limit:,}"
    ) in str(caught.value)


def test_logits_and_blocks_on_their_way_to_the_disk_are_in_the_sum(
    smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lepton.engine.cache_plan.inspect_machine", lambda: machine(2**20))
    model = load_model(smollm2_path)
    config = EngineConfig(max_sequences=1000, max_step_tokens=1000, context_length=256)

    def working(config: EngineConfig) -> int:
        with pytest.raises(ConfigurationError, match="to work with") as caught:
            build_executors(model, config, None)
        (found,) = re.findall(r"\+ ([\d,]+) to work with", str(caught.value))
        return int(found.replace(",", ""))

    logits = 1001 * model.config.vocab_size * 4
    assert working(config) == WORKING_BYTES + logits
    spilling = replace(config, cache_spill=tmp_path)
    # Keys and values of 16 tokens: 30 layers, 3 heads of 64, two bytes each.
    unwritten = 64 * 16 * 2 * 30 * 3 * 64 * 2
    assert working(spilling) == WORKING_BYTES + logits + unwritten


def test_weights_alone_may_be_too_much() -> None:
    with pytest.raises(ConfigurationError, match=r"bytes of the machine's .* are free"):
        plan_cache(EngineConfig(), 1000, BLOCK, 10**9, machine=machine(10**9))


def test_a_context_beyond_the_model_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="beyond the 1000 tokens"):
        plan_cache(EngineConfig(context_length=1001), 1000, BLOCK, machine=machine(10**9))


def test_the_executor_may_have_fewer_blocks_than_planned(toy: Any) -> None:
    config = toy.make_config(num_blocks=10, context_length=400)
    built = build_executors(toy.make_model(512), config, None)
    assert built.main.num_blocks == 10
    assert built.context_length == 160
    assert built.draft is None


def test_a_draft_model_gets_a_few_contexts_of_an_eighth_of_the_cache() -> None:
    roomy = EngineConfig(cache_memory=8 * 10**6)
    assert plan_draft_blocks(roomy, 320, 100, machine(10**9)) == 4 * 20
    tight = EngineConfig(cache_memory=8 * 10_000)
    assert plan_draft_blocks(tight, 320, 400, machine(10**9)) == 25
    assert plan_draft_blocks(tight, 320, 10**6, machine(10**9)) == 16
    one = EngineConfig(max_sequences=1, context_length=160)
    assert plan_draft_blocks(one, 320, 100, machine(10**9)) == 10


@pytest.mark.parametrize(
    "options",
    [
        {"max_sequences": 0},
        {"max_step_tokens": 31},
        {"max_queue": 0},
        {"context_length": 0},
        {"cache_memory": -1},
        {"threads": -1},
        {"executor": "gpu"},
        {"precision": "half"},
        {"kv_dtype": "fp8"},
        {"quantize": "int3"},
        {"precision": "fast", "executor": "reference"},
        {"kv_dtype": "int8", "executor": lambda *_: None},
        {"quantize": "int4", "executor": "reference"},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        EngineConfig(**options)


def test_short_sequences_need_no_full_contexts() -> None:
    config = EngineConfig(max_sequences=4, sequence_tokens=100)
    plan = plan_cache(config, 1000, BLOCK, machine=machine(10**9))
    assert (plan.num_blocks, plan.context_length) == (63, 1000), "one context has room"
    plan = plan_cache(replace(config, max_sequences=20), 1000, BLOCK, machine=machine(10**9))
    assert plan.num_blocks == 20 * 7
    told = replace(config, cache_memory=10**6)
    assert plan_cache(told, 1000, BLOCK, machine=machine(10**9)).num_blocks == 4 * 63
