from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton.engine import block_spill
from lepton.engine.block_spill import BlockSpill
from lepton.engine.core import EngineCore
from lepton.engine.sampling_params import SamplingParams
from lepton.errors import ConfigurationError

BLOCK_BYTES = 64
PARAMS = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)


@pytest.fixture
def memory() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (8, BLOCK_BYTES), dtype=np.uint8)


@pytest.fixture
def spill(tmp_path: Path, memory: np.ndarray) -> Iterator[BlockSpill]:
    made = BlockSpill(tmp_path, 3 * BLOCK_BYTES, memory)
    yield made
    made.close()


def name(number: int) -> bytes:
    return bytes([number]) * 32


def settle(spill: BlockSpill) -> None:
    """Wait until everything is written, or given up."""
    while spill._unwritten:
        time.sleep(0.001)


def test_blocks_come_back_as_they_were(spill: BlockSpill, memory: np.ndarray) -> None:
    before = memory.copy()
    for block in range(3):
        spill.store([(name(block), block)])
    memory[:3] = 0
    settle(spill)
    assert spill.load(name(1), 5)
    assert spill.load(name(0), 6)
    assert spill.load(name(2), 7)
    np.testing.assert_array_equal(memory[[6, 5, 7]], before[:3])
    assert not spill.load(name(9), 0)
    assert (spill.num_blocks, spill.num_hits) == (3, 3)
    spill.check_integrity()


def test_a_block_is_found_while_it_is_still_being_written(
    spill: BlockSpill, memory: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = memory[0].copy()
    write, may_write = os.pwrite, threading.Event()

    def wait(*arguments: Any) -> int:
        assert may_write.wait(60)
        return write(*arguments)

    monkeypatch.setattr(block_spill.os, "pwrite", wait)
    spill.store([(name(0), 0)])
    memory[0] = 0
    assert spill.load(name(0), 5)
    np.testing.assert_array_equal(memory[5], before)
    may_write.set()
    settle(spill)
    spill.check_integrity()


def test_the_least_recently_used_go(spill: BlockSpill) -> None:
    for block in range(3):
        spill.store([(name(block), block)])
        settle(spill)
    assert spill.load(name(0), 7)
    spill.store([(name(3), 3)])
    settle(spill)
    assert [spill.load(name(block), 7) for block in range(4)] == [True, False, True, True]
    spill.discard(name(2))
    spill.check_integrity()
    assert not spill.load(name(2), 7)
    spill.clear()
    assert spill.num_blocks == 0
    spill.check_integrity()


def test_the_file_is_private_and_has_no_name(tmp_path: Path, spill: BlockSpill) -> None:
    spill.store([(name(1), 1)])
    settle(spill)
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(spill._file.fileno()).st_mode & 0o777 == 0o600
    assert os.fstat(spill._file.fileno()).st_size == BLOCK_BYTES


@pytest.mark.parametrize("broken", ["full", "unreadable", "cut"])
def test_an_error_of_the_disk_only_ends_the_spill(
    spill: BlockSpill,
    memory: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with caplog.at_level(logging.ERROR):
        if broken == "full":
            monkeypatch.setattr(block_spill.os, "pwrite", fail)
        spill.store([(name(1), 1)])
        settle(spill)
        if broken == "unreadable":
            monkeypatch.setattr(block_spill.os, "preadv", fail)
        elif broken == "cut":
            spill._file.truncate(BLOCK_BYTES - 1)
        assert not spill.load(name(1), 2)
    assert "no longer spilled" in caplog.text
    spill.store([(name(2), 2)])
    assert spill.num_blocks == 0
    spill.check_integrity()
    assert memory.any()


def test_a_slow_disk_holds_up_nobody(
    spill: BlockSpill, monkeypatch: pytest.MonkeyPatch, memory: np.ndarray
) -> None:
    monkeypatch.setattr(block_spill, "MOST_UNWRITTEN", 2)
    with spill._lock:  # The thread is not told of them.
        spill._unwritten = {name(number): memory[0] for number in range(2)}
    spill.store([(name(5), 5)])
    assert spill.num_blocks == 2
    settle(spill)
    assert not spill.load(name(0), 1)  # What has waited longest made room.
    assert spill.load(name(1), 2)
    assert spill.load(name(5), 3)
    np.testing.assert_array_equal(memory[3], memory[5])
    spill.clear()


def test_of_many_the_last_that_may_wait_are_kept(
    spill: BlockSpill, monkeypatch: pytest.MonkeyPatch, memory: np.ndarray
) -> None:
    monkeypatch.setattr(block_spill, "MOST_UNWRITTEN", 2)
    spill.store([(name(0), 0)])
    settle(spill)
    spill.store([(name(block), block) for block in (0, 1, 2, 3)])
    settle(spill)
    assert [spill.load(name(block), 7) for block in range(4)] == [True, False, True, True]
    np.testing.assert_array_equal(memory[7], memory[3])
    spill.check_integrity()


def test_what_cannot_be_written_is_refused_at_start(tmp_path: Path, memory: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match="missing: No such file"):
        BlockSpill(tmp_path / "missing", 1000, memory)
    with pytest.raises(ConfigurationError, match="less than one block of 64"):
        BlockSpill(tmp_path, 63, memory)


def test_prompts_come_back_from_disk(toy: Any, tmp_path: Path) -> None:
    core = EngineCore(
        toy.make_model(), toy.make_config(num_blocks=9, cache_spill=tmp_path, speculation="off")
    )
    prompts = {
        str(first): [2 + (first + 3 * place) % 20 for place in range(100)] for first in range(3)
    }
    for turn in range(2):
        for key, prompt in prompts.items():
            core.add(core.make_request(f"{turn}-{key}", prompt, PARAMS))
            output = toy.run_all(core)[f"{turn}-{key}"]
            assert output.outputs == toy.run_one(prompt, PARAMS).outputs
            assert output.usage.cached_tokens == (96 if turn else 0)
    stats = core.stats()
    assert stats.spill_hits_total >= 12
    assert stats.spilled_blocks > 12
    core.restart("test")
    assert core.stats().spilled_blocks == 0
    core.close()


def test_a_prompt_comes_back_in_several_steps_beside_completions(toy: Any, tmp_path: Path) -> None:
    config = toy.make_config(num_blocks=16, cache_spill=tmp_path, speculation="off")
    core = EngineCore(toy.make_model(), config)
    prompts = [[2 + (first + 3 * place) % 20 for place in range(100)] for first in range(3)]
    for number, prompt in enumerate(prompts):
        core.add(core.make_request(str(number), prompt, PARAMS))
        toy.run_all(core)
    settle(core.spill)
    core.pacer.target_seconds = 0  # One block a step.
    core.add(core.make_request("beside", [5, 6], SamplingParams(max_tokens=40, ignore_eos=True)))
    core.step()
    assert len(core.scheduler.running) == 1
    request, short = (
        core.make_request(name, prompt, PARAMS)
        for name, prompt in (("again", prompts[0]), ("short", [7, 8]))
    )
    core.add(request)
    core.add(short)
    (sequence,) = request.sequences
    known, held_up = [], True
    while not sequence.num_generated:
        core.step()
        core.scheduler.check_integrity()
        known.append(sequence.num_computed)
        held_up &= not (sequence.restoring and short.sequences[0].num_generated)
    assert not held_up, "what has nothing on disk need not wait"
    # What the last of them brings back is followed by the rest of the prompt at once.
    assert len(known) > 3
    assert known == [*range(known[0], 96, 16), 100]
    assert sequence.num_cached_tokens == 96
    assert core.stats().cached_tokens_total == 96
    toy.run_all(core)
    assert sequence.token_ids[100:] == list(toy.run_one(prompts[0], PARAMS).outputs[0].token_ids)
    core.close()


def test_nobody_finds_the_blocks_of_another_tenant(toy: Any, tmp_path: Path) -> None:
    from lepton.engine.request_options import RequestOptions

    core = EngineCore(toy.make_model(), toy.make_config(num_blocks=9, cache_spill=tmp_path))
    prompt = [2 + place % 20 for place in range(100)]
    for tenant in ("a", "b"):
        options = RequestOptions(tenant=tenant)
        core.add(core.make_request(tenant, prompt, PARAMS, options=options))
        assert toy.run_all(core)[tenant].usage.cached_tokens == 0
    core.close()


def test_it_needs_the_prefix_cache_and_an_executor_with_memory(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="prefix cache"):
        toy.make_config(cache_spill=tmp_path, prefix_cache=False)
    config = toy.make_config(cache_spill=tmp_path)
    made = config.executor(None, 1)
    del made.cache
    object.__setattr__(config, "executor", lambda *_: made)
    with pytest.raises(ConfigurationError, match="native executor"):
        EngineCore(toy.make_model(), config)
