"""Requests that arrive together are computed together, and none waits for a large one."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from lepton.engine import AsyncEncoder, EmbedOptions, EncoderEngine, EngineConfig
from lepton.errors import CapacityError, EngineError, RequestError, UnavailableError
from lepton.models.encoder_loader import load_encoder

sys.path.append(str(Path(__file__).parents[1] / "models"))
from encoder_samples import save_bert


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def encoder(folder):
    encoder = AsyncEncoder(EncoderEngine(load_encoder(folder), EngineConfig(threads=1)))
    yield encoder
    encoder.close()


async def test_a_small_request_passes_by_a_large_one(encoder) -> None:
    large = asyncio.create_task(
        encoder.embed([f"w{5 + n % 190}" for n in range(4000)], EmbedOptions())
    )
    await asyncio.sleep(0)
    small = await encoder.embed(["w5 w6"], EmbedOptions())
    assert not large.done()
    assert len((await large).values) == 4000
    expected = encoder.engine.embed(["w5 w6"])
    np.testing.assert_array_equal(small.values, expected)


async def test_requests_share_steps(encoder) -> None:
    texts = [f"w{5 + n} w7" for n in range(64)]
    answers = await asyncio.gather(*(encoder.embed([text], EmbedOptions()) for text in texts))
    expected = encoder.engine.embed(texts)
    np.testing.assert_array_equal(np.concatenate([each.values for each in answers]), expected)
    assert encoder.num_inputs_total == 64
    assert encoder.num_steps < 64
    assert encoder.waiting_tokens == 0


async def test_errors_reach_their_own_request(encoder) -> None:
    results = await asyncio.gather(
        encoder.embed(["w5"], EmbedOptions()),
        encoder.embed([[999]], EmbedOptions()),
        encoder.classify(["w5"]),
        return_exceptions=True,
    )
    assert results[0].values.shape == (1, 32)
    assert isinstance(results[1], RequestError)
    assert isinstance(results[2], RequestError)


async def test_after_closing(encoder) -> None:
    encoder.close()
    with pytest.raises(UnavailableError):
        await encoder.embed(["w5"], EmbedOptions())


class Gate:
    """Holds an encoder's thread before its next step, and fails texts that hold one token."""

    def __init__(self, encoder: AsyncEncoder, poison: int = -1) -> None:
        self._forward = encoder.engine.forward
        self._poison = poison
        self.open = threading.Event()
        self.reached = threading.Event()
        encoder.engine.forward = self._pass

    def _pass(self, windows, pooling):
        self.reached.set()
        assert self.open.wait(60)
        if any(self._poison in window.token_ids for window in windows):
            raise ValueError("no such step")
        return self._forward(windows, pooling)

    async def hold(self, encoder: AsyncEncoder) -> asyncio.Task:
        """Begin a step that lasts until the gate is open."""
        first = asyncio.create_task(encoder.embed(["w9"], EmbedOptions()))
        assert await asyncio.to_thread(self.reached.wait, 60)
        return first


async def until_waiting(encoder: AsyncEncoder, tokens: int) -> None:
    while encoder.waiting_tokens < tokens:
        await asyncio.sleep(0.001)


async def test_a_request_that_fails_fails_alone(encoder) -> None:
    gate = Gate(encoder, poison=77)
    first = await gate.hold(encoder)
    tasks = [
        asyncio.create_task(encoder.embed([text], EmbedOptions())) for text in ("w5", "w77", "w6")
    ]
    await until_waiting(encoder, 12)
    gate.open.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert [type(result) for result in results[:2]] == [type(results[3])] * 2
    assert isinstance(results[2], EngineError)
    np.testing.assert_array_equal(results[3].values, encoder.engine.embed(["w6"]))
    assert encoder.waiting_tokens == 0


async def test_a_large_request_keeps_no_small_one_out(encoder) -> None:
    gate = Gate(encoder)
    first = await gate.hold(encoder)
    inputs = ["w5 " * 62] * 15_000
    large = asyncio.create_task(encoder.embed(inputs, EmbedOptions()))
    await until_waiting(encoder, 15_000 * 64)
    with pytest.raises(CapacityError, match="tokens are waiting already"):
        await encoder.embed(inputs, EmbedOptions())
    small = asyncio.create_task(encoder.embed(["w5 w6"], EmbedOptions()))
    large.cancel()
    gate.open.set()
    assert (await small).values.shape == (1, 32)
    await first
    assert encoder.waiting_tokens == 0


async def test_requests_are_measured_before_windows_are_made(folder, encoder, monkeypatch) -> None:
    monkeypatch.setattr("lepton.engine.encoder_inputs.Window", None)
    many = "w5 " * 62
    with pytest.raises(RequestError, match=r"1,280,000 tokens.*limit is 1,000,000: divide it"):
        await encoder.embed([many] * 20_000, EmbedOptions())
    with pytest.raises(RequestError, match=r"600,000 inputs; .* at most 524,288 at once"):
        await encoder.embed(["w5"] * 600_000, EmbedOptions())


async def test_a_query_counts_with_each_of_its_documents(tmp_path, monkeypatch) -> None:
    ranker = save_bert(tmp_path, "BertForSequenceClassification", num_labels=1)
    encoder = AsyncEncoder(EncoderEngine(load_encoder(ranker), EngineConfig(threads=1)))
    monkeypatch.setattr("lepton.engine.encoder_inputs.Window", None)
    with pytest.raises(RequestError, match=r"1,280,000 tokens, prompts and repeated queries"):
        await encoder.score([("w5 " * 200, "w6")] * 20_000)
    encoder.close()


async def test_shutting_down_answers_everybody(encoder) -> None:
    gate = Gate(encoder)
    first = await gate.hold(encoder)
    gone = asyncio.create_task(encoder.embed(["w5"], EmbedOptions()))
    left = asyncio.create_task(encoder.embed(["w6"], EmbedOptions()))
    await until_waiting(encoder, 9)
    closing = asyncio.create_task(asyncio.to_thread(encoder.close))
    while not encoder._stopping:
        await asyncio.sleep(0.001)
    gone.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    results = await asyncio.wait_for(
        asyncio.gather(first, gone, left, return_exceptions=True), timeout=60
    )
    assert results[0].values.shape == (1, 32)
    assert isinstance(results[1], asyncio.CancelledError)
    assert isinstance(results[2], UnavailableError)
    await closing
    assert encoder.waiting_tokens == 0


async def test_pairs_of_vectors_are_named_by_their_place(encoder) -> None:
    with pytest.raises(RequestError, match="text 2 of pair 2 is not valid Unicode"):
        await encoder.score([("w5", "w6"), ("w5", "w6"), ("w5", "\ud800")])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_loop_that_dies_leaves_nobody_waiting(encoder, monkeypatch) -> None:
    gate = Gate(encoder)
    first = await gate.hold(encoder)
    waiting = encoder.waiting_tokens
    second = asyncio.create_task(encoder.embed(["w5"], EmbedOptions()))
    await until_waiting(encoder, waiting + 1)

    def die(parts: object) -> None:
        raise RuntimeError("no way on")

    monkeypatch.setattr(encoder, "_step", die)
    gate.open.set()
    await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 60)
    with pytest.raises(UnavailableError):
        await second
    await asyncio.to_thread(encoder._thread.join, 60)
    assert not encoder.alive
