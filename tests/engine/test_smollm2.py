"""The engine on a real model, with the executor that users run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton.engine import LLM, AsyncEngine, EngineConfig, RequestOutput, SamplingParams
from lepton.engine.prompt_lookup import LookupSource
from lepton.engine.sampler import Sampler
from lepton.models.loader import Model, load_model

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n",
    "Once upon a time",
    "北京是中国的",
    "1, 2, 3, 4,",
    "Dear customer,\n\n",
    "😀😀",
    "Water boils at",
]


@pytest.fixture(scope="module")
def model(smollm2_path: Path) -> Iterator[Model]:
    with load_model(smollm2_path) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def llm(model: Model) -> Iterator[LLM]:
    with LLM(model, context_length=256, max_sequences=8, cache_memory=64 * 2**20) as made:
        yield made


def test_it_knows_the_capital_of_france(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=20)
    (output,) = llm.chat(QUESTION, params)
    assert "Paris" in output.outputs[0].text
    assert output.outputs[0].finish_reason == "stop"
    streamed = [delta.text for delta in llm.stream(QUESTION, params)]
    assert "".join(streamed) == output.outputs[0].text
    assert len([text for text in streamed if text]) > 3


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_completion_does_not_depend_on_its_batch(llm: LLM, temperature: float) -> None:
    params = SamplingParams(temperature=temperature, top_p=0.95, seed=1, max_tokens=8, logprobs=1)
    together = llm.generate(PROMPTS, params)
    for prompt, output in zip(PROMPTS, together, strict=True):
        assert llm.generate(prompt, params)[0].outputs == output.outputs


def test_a_completion_does_not_depend_on_preemption_or_chunks(llm: LLM, model: Model) -> None:
    params = SamplingParams(temperature=0, max_tokens=28, ignore_eos=True, logprobs=0)
    expected = llm.generate(PROMPTS[:4], params)
    tight = EngineConfig(context_length=64, max_sequences=4, max_step_tokens=5)
    block = llm._core.executor.bytes_per_block
    with LLM(model, **{**vars(tight), "cache_memory": 5 * block}) as small:
        outputs = small.generate(PROMPTS[:4], params)
        assert small._core.stats().preemptions_total > 0
    assert [output.outputs for output in outputs] == [output.outputs for output in expected]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0, max_tokens=200, ignore_eos=True),
        SamplingParams(seed=5, top_k=12, top_p=0.95, max_tokens=100, ignore_eos=True),
        SamplingParams(seed=6, top_k=3, min_tokens=60, max_tokens=100),
    ],
)
def test_scanning_the_head_changes_no_token(llm: LLM, monkeypatch, params: SamplingParams) -> None:
    scanned = [llm.generate(prompt, params)[0].outputs for prompt in PROMPTS[:2]]
    monkeypatch.setattr(Sampler, "num_best", lambda *_: 0)
    assert [llm.generate(prompt, params)[0].outputs for prompt in PROMPTS[:2]] == scanned


def test_logits_agree_with_generation(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True, logprobs=0)
    (output,) = llm.generate(PROMPTS[0], params)
    completion = output.outputs[0]
    tokens = [*output.prompt_token_ids, *completion.token_ids]
    logits = llm.logits(tokens).astype(np.float64)
    assert logits.shape == (len(tokens), llm.model.config.vocab_size)
    rows = logits[len(output.prompt_token_ids) - 1 : -1]
    assert rows.argmax(axis=1).tolist() == list(completion.token_ids)
    expected = rows.max(axis=1) - np.log(np.exp(rows).sum(axis=1))
    assert completion.logprobs is not None
    actual = [entry.logprob for entry in completion.logprobs]
    np.testing.assert_allclose(actual, expected, atol=1e-4)


async def test_concurrent_readers_get_what_they_would_get_alone(llm: LLM, model: Model) -> None:
    params = SamplingParams(temperature=0.8, seed=3, max_tokens=8, stop=("\n\n",), n=2)
    expected: list[RequestOutput] = llm.generate(PROMPTS, params)
    engine = AsyncEngine(model, EngineConfig(context_length=128, max_sequences=6))
    engine.start()

    async def texts(prompt: str) -> list[str]:
        gathered = ["", ""]
        async for delta in engine.generate(model.tokenizer.encode(prompt), params):
            gathered[delta.index] += delta.text
        return gathered

    results = await asyncio.gather(*map(texts, PROMPTS))
    await asyncio.to_thread(engine.shutdown)
    assert results == [[each.text for each in output.outputs] for output in expected]


COPYING = [
    [{"role": "user", "content": f"Repeat this text word by word.\n\n{text}"}]
    for text in (
        "The library in the harbour opens at nine, and it closes at six. On Sundays it is closed.",
        "for index in range(10):\n    print(index)\nfor index in range(20):\n    print(index)",
    )
]
CHOICES = [
    SamplingParams(temperature=0, max_tokens=48, logprobs=0, ignore_eos=True),
    SamplingParams(temperature=0.7, top_p=0.9, seed=11, max_tokens=48, ignore_eos=True),
    SamplingParams(temperature=0, max_tokens=48, repetition_penalty=1.1, ignore_eos=True),
]


@pytest.mark.parametrize("params", CHOICES)
def test_speculation_changes_no_token(
    toy: Any, llm: LLM, model: Model, params: SamplingParams
) -> None:
    with LLM(model, speculation="off", prefix_cache=False, context_length=256) as plain:
        expected = [plain.chat(each, params)[0].outputs for each in COPYING]
    core = llm._core
    before = core.stats()
    speculator, core.speculator = (
        core.speculator,
        toy.EagerSpeculator(LookupSource(), core.pacer, 12),
    )
    try:
        alone = [llm.chat(each, params)[0].outputs for each in COPYING]
        crowd = [output.outputs for output in llm.chat(COPYING * 3, params)]
    finally:
        core.speculator = speculator
    assert alone == expected
    assert crowd == expected * 3
    accepted = core.stats().accepted_tokens_total - before.accepted_tokens_total
    drafted = core.stats().draft_tokens_total - before.draft_tokens_total
    assert 30 < accepted < drafted


@pytest.mark.parametrize("params", CHOICES)
def test_a_warm_cache_changes_no_token(model: Model, params: SamplingParams) -> None:
    with LLM(model, context_length=256, max_sequences=8, cache_memory=64 * 2**20) as made:
        cold = made.chat(COPYING, params)
        warm = made.chat(COPYING, params)
        (turn,) = made.generate(
            [[*warm[0].prompt_token_ids, *warm[0].outputs[0].token_ids]], params
        )
    assert [output.outputs for output in warm] == [output.outputs for output in cold]
    for output in warm:
        assert output.usage.cached_tokens >= len(output.prompt_token_ids) - 16
    assert turn.usage.cached_tokens > len(warm[0].prompt_token_ids)
    with LLM(model, context_length=256, prefix_cache=False) as plain:
        (again,) = plain.generate([list(turn.prompt_token_ids)], params)
        assert again.usage.cached_tokens == 0
        assert again.outputs == turn.outputs


@pytest.mark.parametrize("params", CHOICES)
def test_a_model_that_drafts_for_itself_is_right(
    toy: Any, llm: LLM, model: Model, params: SamplingParams
) -> None:
    expected = [llm.chat(each, params)[0].outputs for each in COPYING]
    options = {"context_length": 256, "max_sequences": 4, "cache_memory": 64 * 2**20}
    with LLM(model, speculation="draft", draft_model=model, **options) as drafting:
        core = drafting._core
        assert core.speculator is not None
        core.speculator = toy.EagerSpeculator(core.speculator.source, core.pacer, 4)
        assert [output.outputs for output in drafting.chat(COPYING, params)] == expected
        stats = core.stats()
    assert stats.draft_tokens_total > 20
    # Penalties do not see what is only a guess yet.
    if not params.penalized:
        assert stats.accepted_tokens_total == stats.draft_tokens_total


def test_a_cache_on_disk_changes_no_token(llm: LLM, model: Model, tmp_path: Path) -> None:
    params = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True, logprobs=0)
    chats = [[{"role": "user", "content": f"{number}. {'Go on. ' * 20}"}] for number in range(4)]
    expected = [llm.chat(each, params)[0].outputs for each in chats]
    options = {"context_length": 112, "cache_memory": 7 * llm._core.executor.bytes_per_block}
    with LLM(model, cache_spill=tmp_path, max_sequences=1, **options) as spilling:
        for _ in range(2):
            outputs = [spilling.chat(each, params)[0] for each in chats]
            assert [output.outputs for output in outputs] == expected
        assert all(output.usage.cached_tokens > 48 for output in outputs)
        assert spilling._core.stats().spill_hits_total >= 8
