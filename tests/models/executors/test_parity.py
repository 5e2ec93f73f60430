"""Executors against transformers in float32, on every architecture with tiny random weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lepton.models.executors import BLOCK_SIZE, Executor, build_executor
from lepton.models.executors.native import NativeExecutor
from lepton.models.executors.reference import ReferenceExecutor
from lepton.models.loader import Network, load_network

EXECUTORS = ["reference", "native"]
TOLERANCES = {"reference": 2e-5, "native": 2e-2}
VARIANTS = [
    "llama",
    "llama-biases",
    "llama-llama3",
    "llama-linear",
    "llama-yarn",
    "mistral",
    "qwen2",
    "qwen2-window",
    "qwen3",
    "gemma3",
    "gemma3-linear",
    "gemma3-multimodal",
]
IN_GGUF = [name for name in VARIANTS if name not in ("qwen2-window", "gemma3-multimodal")]
LENGTHS = (70, 33, 16, 5)


def tokens(length: int, seed: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, 300, length).tolist())


SEQUENCES = [tokens(length, seed) for seed, length in enumerate(LENGTHS)]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """‖found - expected‖ / ‖expected‖ over the logits of a sequence."""
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def check(found: np.ndarray, expected: np.ndarray, kind: str) -> None:
    assert relative_error(found, expected) <= TOLERANCES[kind]
    error = np.sqrt(np.mean((found - expected) ** 2, axis=1))
    second, first = np.sort(expected, axis=1)[:, -2:].T
    clear = first - second > 4 * error
    assert clear.mean() > 0.5, "too few rows have a clear winner for this to be a test"
    assert (found.argmax(1) == expected.argmax(1))[clear].all()


@pytest.fixture(scope="module", params=VARIANTS)
def tiny(request, tiny_model):
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def network(tiny) -> Iterator[Network]:
    with load_network(tiny.path) as network:
        yield network


@pytest.fixture(params=EXECUTORS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def executor(network, kind) -> Iterator[Executor]:
    executor = build_executor(network, kind, num_blocks=16, threads=2)
    yield executor
    executor.close()


def test_one_prefill(tiny, executor, kind, runner) -> None:
    (found,) = runner(executor, SEQUENCES[:1]).run(lambda _, left: left)
    check(found, tiny.logits(SEQUENCES[0]), kind)


def test_token_by_token(tiny, executor, kind, runner) -> None:
    (found,) = runner(executor, SEQUENCES[:1]).run(lambda *_: 1)
    check(found, tiny.logits(SEQUENCES[0]), kind)


def test_ragged_batches(tiny, executor, kind, runner) -> None:
    """Pieces of 0 to 20 tokens of four sequences: prefill and decode mixed, across blocks."""
    sizes = np.random.default_rng(5)
    found = runner(executor, SEQUENCES).run(lambda *_: int(sizes.integers(0, 21)))
    for logits, sequence in zip(found, SEQUENCES, strict=True):
        check(logits, tiny.logits(sequence), kind)


def test_native_differs_by_its_cache_alone(network, runner) -> None:
    """The tolerance of the native executor is for bfloat16 keys and values, nothing else."""
    native = NativeExecutor(network, num_blocks=8, threads=2)
    reference = ReferenceExecutor(network, num_blocks=8, cache_type="bfloat16")
    (found,) = runner(native, SEQUENCES[:1]).run(lambda _, left: left)
    (expected,) = runner(reference, SEQUENCES[:1]).run(lambda _, left: left)
    assert relative_error(found, expected) <= 1e-3
    native.close()


@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("variant", IN_GGUF)
def test_gguf(variant, kind, tiny_model, tiny_gguf, runner) -> None:
    tiny = tiny_model(variant)
    with load_network(tiny_gguf(tiny)) as network:
        executor = build_executor(network, kind, num_blocks=8, threads=2)
    (found,) = runner(executor, SEQUENCES[:1]).run(lambda _, left: left)
    check(found, tiny.logits(SEQUENCES[0]), kind)
    executor.close()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_shared_prefix_and_chosen_rows(kind, tiny_model, runner) -> None:
    """Two sequences read the same first block; only the last rows' logits are asked for."""
    tiny = tiny_model("gemma3")
    shared, tails = tokens(BLOCK_SIZE, 1), [tokens(20, 2), tokens(9, 3)]
    sequences = [shared + tail for tail in tails]
    with load_network(tiny.path) as network:
        executor = build_executor(network, kind, num_blocks=8, threads=2)
    run = runner(executor, sequences)
    run.step([BLOCK_SIZE, 0])
    run.tables[1, 0] = run.tables[0, 0]
    run.done[1] = BLOCK_SIZE
    batch = run.batch([20, 9])
    last = np.array([28, 19], np.int32)
    found = executor.forward(type(batch)(**{**vars(batch), "logit_rows": last}))
    expected = [tiny.logits(sequence)[-1] for sequence in reversed(sequences)]
    assert relative_error(found, np.stack(expected)) <= TOLERANCES[kind]
    executor.close()
