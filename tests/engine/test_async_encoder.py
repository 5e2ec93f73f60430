"""Requests that arrive together are computed together, and none waits for a large one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from lepton.engine import AsyncEncoder, EmbedOptions, EncoderEngine, EngineConfig
from lepton.errors import RequestError, UnavailableError
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
