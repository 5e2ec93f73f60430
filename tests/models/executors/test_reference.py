"""The reference executor's care for its batch, and that the native one shares it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lepton.models.executors import Batch, Executor, build_executor
from lepton.models.loader import load_network

NUM_BLOCKS = 4


def int32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


BATCH = Batch(
    token_ids=int32(5, 6, 7),
    positions=int32(16, 17, 0),
    row_starts=int32(0, 2, 3),
    block_tables=np.array([[2, 0], [3, -1]], np.int32),
    logit_rows=int32(1, 2),
)
FAULTS = {
    "token under 0": {"token_ids": int32(5, -1, 7)},
    "token over the vocabulary": {"token_ids": int32(5, 300, 7)},
    "position under 0": {"positions": int32(16, 17, -1)},
    "positions with a gap": {"positions": int32(15, 17, 0)},
    "positions backwards": {"positions": int32(17, 16, 0)},
    "position beyond the table": {"positions": int32(31, 32, 0)},
    "position far beyond": {"positions": int32(2**31 - 2, 2**31 - 1, 0)},
    "too few positions": {"positions": int32(16, 17)},
    "rows that start late": {"row_starts": int32(1, 2, 3)},
    "rows that end early": {"row_starts": int32(0, 2, 2)},
    "rows that end late": {"row_starts": int32(0, 2, 4)},
    "rows that decrease": {"row_starts": int32(0, 4, 3)},
    "a sequence without rows": {
        "row_starts": int32(0, 2, 2, 3),
        "block_tables": np.array([[2, 0], [-1, -1], [3, -1]], np.int32),
    },
    "no row starts": {"row_starts": int32()},
    "a table too few": {"block_tables": np.array([[2, 0]], np.int32)},
    "block missing": {"block_tables": np.array([[2, -1], [3, -1]], np.int32)},
    "earlier block missing": {"block_tables": np.array([[-1, 0], [3, -1]], np.int32)},
    "block over the cache": {"block_tables": np.array([[2, 0], [NUM_BLOCKS, -1]], np.int32)},
    "logit row under 0": {"logit_rows": int32(-1)},
    "logit row beyond": {"logit_rows": int32(3)},
}
SHARING = {
    "block written by two": np.array([[2, 0], [0, -1]], np.int32),
    "block read and written": np.array([[3, 0], [3, -1]], np.int32),
    "block twice in one table": np.array([[0, 0], [3, -1]], np.int32),
}


@pytest.fixture(params=["reference", "native"])
def executor(request, tiny_model) -> Iterator[Executor]:
    with load_network(tiny_model("qwen3").path) as network:
        executor = build_executor(network, request.param, num_blocks=NUM_BLOCKS, threads=1)
    prefill = np.arange(16, dtype=np.int32)
    executor.forward(
        Batch(prefill, prefill, int32(0, 16), int32(2).reshape(1, 1), logit_rows=int32(15))
    )
    yield executor
    executor.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_batch_is_refused_and_nothing_is_written(executor, fault) -> None:
    expected = executor.forward(BATCH)
    with pytest.raises(ValueError):
        executor.forward(replace(BATCH, **FAULTS[fault]))
    # BATCH writes its own rows again; block 2, which it only reads, must be as it was.
    np.testing.assert_array_equal(executor.forward(BATCH), expected)


@pytest.mark.parametrize("sharing", SHARING)
def test_the_reference_refuses_to_write_to_a_shared_block(tiny_model, sharing) -> None:
    with load_network(tiny_model("qwen3").path) as network:
        executor = build_executor(network, "reference", num_blocks=NUM_BLOCKS)
    with pytest.raises(ValueError, match="more than one sequence"):
        executor.forward(replace(BATCH, block_tables=SHARING[sharing]))


def test_a_batch_may_be_empty_of_logits(executor) -> None:
    assert executor.forward(replace(BATCH, logit_rows=int32())).shape == (0, 300)


def test_a_closed_executor_refuses(tiny_model) -> None:
    with load_network(tiny_model("qwen3").path) as network:
        executor = build_executor(network, "reference", num_blocks=NUM_BLOCKS)
    executor.close()
    with pytest.raises(ValueError, match="closed"):
        executor.forward(BATCH)
