"""What only the native executor promises: equal bits, isolation, checked batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lepton.errors import ConfigurationError
from lepton.kernels import isa_info
from lepton.models.executors import CACHE_TYPES, Batch, cache_bytes_per_block
from lepton.models.executors.native import NativeExecutor
from lepton.models.loader import Network, load_network

IDS = np.random.default_rng(0).integers(1000, 40000, 200).tolist()


@pytest.fixture(scope="module")
def network(smollm2_path: Path) -> Iterator[Network]:
    with load_network(smollm2_path) as network:
        yield network


@pytest.fixture(scope="module")
def executor(network: Network) -> NativeExecutor:
    return NativeExecutor(network, num_blocks=128)


@pytest.fixture
def batch() -> Batch:
    return Batch(
        token_ids=np.array([10, 11, 12], np.int32),
        positions=np.array([0, 1, 2], np.int32),
        row_starts=np.array([0, 3], np.int32),
        block_tables=np.array([[5]], np.int32),
        logit_rows=np.array([2], np.int32),
    )


def test_every_instruction_set_and_thread_count_gives_the_same_bits(network, runner) -> None:
    ids = IDS[:24]
    expected = None
    for isa in isa_info().supported:
        for threads in (1, 2, 3):
            executor = NativeExecutor(network, num_blocks=8, isa=isa, threads=threads)
            assert executor.isa == isa
            (logits,) = runner(executor, [ids]).run(lambda _, left: left)
            expected = logits if expected is None else expected
            np.testing.assert_array_equal(logits, expected)
            if isa == "scalar":
                break


def test_a_row_depends_on_neither_batch_nor_chunks(executor, runner) -> None:
    sequences = [IDS[:40], IDS[40:57], IDS[60:61], *([IDS[70 + i : 80 + i] for i in range(20)])]
    together = runner(executor, sequences).run(lambda index, left: min(left, 3 + index % 5))
    for index, sequence in enumerate(sequences):
        (alone,) = runner(executor, [sequence], seed=index).run(lambda _, left: left)
        np.testing.assert_array_equal(together[index], alone)


@pytest.mark.parametrize("kv_dtype", CACHE_TYPES)
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_sequence_is_the_same_alone_and_among_1_6_and_63_others(
    network, runner, precision, kv_dtype
) -> None:
    executor = NativeExecutor(network, num_blocks=64, precision=precision, kv_dtype=kv_dtype)
    sequences = [IDS[start : start + 9] for start in range(64)]
    seen: dict[int, np.ndarray] = {}
    for count in (1, 2, 7, 64):
        found = runner(executor, sequences[:count], seed=count).run(
            lambda index, left: min(left, 1 + index % 4)
        )
        for index, logits in enumerate(found):
            np.testing.assert_array_equal(logits, seen.setdefault(index, logits))


def test_one_plane_is_near_two(network, executor, runner) -> None:
    fast = NativeExecutor(network, num_blocks=16, precision="fast")
    (exact_logits,) = runner(executor, [IDS[:100]]).run(lambda _, left: left)
    (fast_logits,) = runner(fast, [IDS[:100]]).run(lambda _, left: left)
    assert not np.array_equal(exact_logits, fast_logits)
    assert np.abs(exact_logits - fast_logits).max() < 0.1 * np.abs(exact_logits).max()


def test_what_an_earlier_request_left_in_a_block_is_never_read(network, batch) -> None:
    executor = NativeExecutor(network, num_blocks=8)
    clean = executor.forward(batch)
    # Positions 3 … 15 of block 5 are written by another sequence first, then reused.
    other = np.arange(16, dtype=np.int32)
    executor.forward(
        Batch(other + 500, other, np.array([0, 16], np.int32), batch.block_tables, other[-1:])
    )
    np.testing.assert_array_equal(executor.forward(batch), clean)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_ids": [10, 11, 49152]}, "outside the vocabulary"),
        ({"token_ids": [10, -1, 12]}, "outside the vocabulary"),
        ({"positions": [0, 1, 3]}, "consecutive"),
        ({"positions": [-1, 0, 1]}, "consecutive"),
        ({"positions": [15, 16, 17]}, "shorter than its sequence"),
        ({"row_starts": [0, 2]}, "row_starts"),
        ({"row_starts": [0, 4]}, "row_starts"),
        ({"block_tables": [[128]]}, "block index"),
        ({"block_tables": [[-1]]}, "block index"),
        ({"logit_rows": [3]}, "logit row"),
        ({"logit_rows": [-1]}, "logit row"),
        ({"num_best": [-1]}, "num_best"),
        ({"num_best": [1, 1]}, "agree in size"),
        ({"positions": [0, 1]}, "agree in size"),
        ({"block_tables": [[5], [6]]}, "agree in size"),
        (
            {"row_starts": [0, 1, 3], "positions": [0, 0, 1], "block_tables": [[5], [5]]},
            "elsewhere",
        ),
        ({"positions": [15, 16, 17], "block_tables": [[5, 5]]}, "elsewhere"),
    ],
)
def test_inconsistent_batches_are_refused(executor, batch, change, message) -> None:
    arrays = {name: np.array(value, np.int32) for name, value in change.items()}
    with pytest.raises(ValueError, match=message):
        executor.forward(replace(batch, **arrays))


def test_logits_that_are_held_are_never_overwritten(executor, batch) -> None:
    held = [executor.forward(batch) for _ in range(3)]
    copies = [logits.copy() for logits in held]
    for logits in held:
        logits += 1
    again = executor.forward(batch)
    assert not any(np.shares_memory(again, logits) for logits in held)
    for logits, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(logits, copy + 1)
        np.testing.assert_array_equal(again, copy)


LOWEST = np.finfo(np.float32).min


@pytest.mark.parametrize(("wanted", "best"), [(1, 1), (1, 9), (3, 1), (4, 2), (6, 1), (8, 1)])
def test_the_best_logits_are_those_of_the_full_product(executor, batch, wanted, best) -> None:
    table = np.arange(8, dtype=np.int32)[None]
    scanned = 0
    for start in range(0, 100, wanted):
        rows = np.arange(wanted, dtype=np.int32)
        step = Batch(
            token_ids=np.array(IDS[start : start + wanted], np.int32),
            positions=rows + np.int32(start),
            row_starts=np.array([0, wanted], np.int32),
            block_tables=table,
            logit_rows=rows,
        )
        full = executor.forward(step)
        found = executor.forward(replace(step, num_best=np.full(wanted, best, np.int32)))
        computed = found != LOWEST
        scanned += not computed.all()
        np.testing.assert_array_equal(found[computed], full[computed])
        limits = np.sort(full, axis=1)[:, -best, None]
        assert computed[full >= limits].all()
    assert scanned > 0


@pytest.mark.parametrize(
    ("rows", "num_best"),
    [([2], [0]), ([1, 2], [1, 0]), ([2], [14]), ([0, 1, 2] * 3, [1] * 9)],
)
def test_logits_that_may_all_matter_are_all_computed(executor, batch, rows, num_best) -> None:
    batch = replace(batch, logit_rows=np.array(rows, np.int32))
    best = replace(batch, num_best=np.array(num_best, np.int32))
    np.testing.assert_array_equal(executor.forward(best), executor.forward(batch))


def test_no_logits_wanted(executor, batch) -> None:
    empty = replace(batch, logit_rows=np.array([], np.int32))
    assert executor.forward(empty).shape == (0, executor.vocab_size)


def test_ids_are_never_converted(executor, batch) -> None:
    for wrong in (np.array([5.9, 6.2, 7.0]), np.array([2**32 + 5, 6, 7], np.int64)):
        with pytest.raises(TypeError):
            executor.forward(replace(batch, token_ids=wrong))


def test_impossible_settings_name_the_way_out(network) -> None:
    with pytest.raises(ConfigurationError, match="LEPTON_ISA may be one of"):
        NativeExecutor(network, num_blocks=8, isa="mmx")
    with pytest.raises(ConfigurationError, match="threads"):
        NativeExecutor(network, num_blocks=8, threads=-1)
    with pytest.raises(ConfigurationError, match="num_blocks"):
        NativeExecutor(network, num_blocks=0)


def test_a_closed_executor_says_so(network, batch) -> None:
    executor = NativeExecutor(network, num_blocks=8)
    executor.close()
    executor.close()
    with pytest.raises(ValueError, match="closed"):
        executor.forward(batch)


def test_one_caller_at_a_time(network) -> None:
    """A second thread gets an error, whatever the first one's luck: never a crash."""
    executor = NativeExecutor(network, num_blocks=64, threads=1)
    rows = np.arange(400, dtype=np.int32)
    table = np.arange(25, dtype=np.int32)[None]
    step = Batch(rows + 9, rows, np.array([0, 400], np.int32), table, rows[-1:])
    expected = executor.forward(step)
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(executor.forward(step))
        except RuntimeError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(isinstance(outcome, str) and "another thread" in outcome for outcome in outcomes)
    for outcome in outcomes:
        if not isinstance(outcome, str):
            np.testing.assert_array_equal(outcome, expected)
    np.testing.assert_array_equal(executor.forward(step), expected)


@pytest.mark.parametrize("kv_dtype", ["bf16", "int8"])
def test_the_cache_is_planned_as_large_as_it_is(tiny_model, kv_dtype) -> None:
    for variant in ("llama", "qwen3"):
        with load_network(tiny_model(variant).path) as network:
            executor = NativeExecutor(network, num_blocks=2, kv_dtype=kv_dtype)
            planned = cache_bytes_per_block(network.config, CACHE_TYPES[kv_dtype])
            assert executor.bytes_per_block == planned


def test_an_int8_cache_is_near_bf16(network, executor, runner) -> None:
    small = NativeExecutor(network, num_blocks=16, kv_dtype="int8")
    (expected,) = runner(executor, [IDS[:100]]).run(lambda _, left: left)
    (found,) = runner(small, [IDS[:100]]).run(lambda _, left: left)
    assert not np.array_equal(found, expected)
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
