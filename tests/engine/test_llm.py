from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from lepton.engine.llm import LLM
from lepton.engine.sampling_params import SamplingParams
from lepton.errors import RequestError, UnavailableError

PARAMS = SamplingParams(seed=2, max_tokens=30, ignore_eos=True, stop=("abc",))


@pytest.fixture
def llm(toy: Any) -> LLM:
    config = toy.make_config()
    return LLM(toy.make_model(), executor=config.executor)


def test_generate_takes_texts_and_token_ids(llm: LLM, toy: Any) -> None:
    (single,) = llm.generate("abc the", PARAMS)
    tokens = llm.tokenizer.encode("abc the")
    assert single.prompt_token_ids == tuple(tokens)
    for prompts in (tokens, np.array(tokens), ["abc the"], [tokens]):
        (again,) = llm.generate(prompts, PARAMS)  # type: ignore[arg-type]
        assert again.outputs == single.outputs
    assert single.outputs == toy.run_one(tokens, PARAMS).outputs


def test_generate_answers_in_order(llm: LLM) -> None:
    prompts = [[5] * length for length in (40, 1, 20)]
    settings = [SamplingParams(temperature=0, max_tokens=count) for count in (1, 9, 3)]
    outputs = llm.generate(prompts, settings)
    assert [len(output.prompt_token_ids) for output in outputs] == [40, 1, 20]
    assert llm.generate([], PARAMS) == []
    with pytest.raises(ValueError, match="3 prompts but 2"):
        llm.generate(prompts, settings[:2])


def test_a_bad_prompt_leaves_nothing_behind(llm: LLM) -> None:
    with pytest.raises(RequestError):
        llm.generate([[5], [10_000]], PARAMS)
    assert llm.generate([5], PARAMS)[0].request_id.startswith("request-")
    assert llm._core.stats().waiting == 0


def test_stream_equals_generate(llm: LLM) -> None:
    for prompt in ("abc", "the 中", "😀"):
        for seed in range(10):
            params = SamplingParams(
                seed=seed, max_tokens=40, stop=("abc", "汉a", "\n"), logprobs=1, n=2
            )
            deltas = list(llm.stream(prompt, params))
            (whole,) = llm.generate(prompt, params)
            assert deltas[-1].usage == whole.usage
            for output in whole.outputs:
                mine = [delta for delta in deltas if delta.index == output.index]
                assert "".join(delta.text for delta in mine) == output.text
                assert sum((delta.token_ids for delta in mine), ()) == output.token_ids
                assert sum((delta.logprobs or () for delta in mine), ()) == output.logprobs
                assert mine[-1].finish_reason == output.finish_reason


def test_a_closed_stream_frees_its_request(llm: LLM) -> None:
    stream = llm.stream("abc", PARAMS)
    next(stream)
    assert llm._core.stats().running == 1
    stream.close()  # type: ignore[attr-defined]
    assert llm._core.stats().used_blocks == 0
    assert llm._unread == {}


def test_streams_interleave(llm: LLM) -> None:
    params = SamplingParams(seed=2, max_tokens=10, ignore_eos=True)
    first, second = llm.stream("abc", params), llm.stream("the", params)
    texts = ["", ""]
    for one, other in zip(first, second, strict=True):
        texts[0] += one.text
        texts[1] += other.text
    expected = [output.outputs[0].text for output in llm.generate(["abc", "the"], params)]
    assert texts == expected


def test_threads_may_share_it(llm: LLM) -> None:
    prompts = [f"{'abcdefgh'[index]} the" for index in range(6)]
    expected = [llm.generate(prompt, PARAMS)[0].outputs for prompt in prompts]
    results: dict[int, Any] = {}

    def work(index: int) -> None:
        results[index] = llm.generate(prompts[index], PARAMS)[0].outputs

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[index] for index in range(6)] == expected


def test_chat_applies_the_template(llm: LLM) -> None:
    messages = [{"role": "user", "content": "abc"}]
    (output,) = llm.chat(messages, PARAMS)
    assert list(output.prompt_token_ids) == llm.tokenizer.encode("abc\nthe ")
    both = llm.chat([messages, messages], PARAMS)
    assert [each.outputs for each in both] == [output.outputs] * 2
    streamed = "".join(delta.text for delta in llm.stream(messages, PARAMS))
    assert streamed == output.outputs[0].text


def test_chat_without_a_template(toy: Any) -> None:
    llm = LLM(toy.make_model(chat=False), executor=toy.make_config().executor)
    with pytest.raises(RequestError, match="pieces has no chat template") as caught:
        llm.chat([{"role": "user", "content": "abc"}])
    assert caught.value.param == "messages"


def test_logits(llm: LLM, toy: Any) -> None:
    logits = llm.logits([5, 6, 7])
    assert logits.shape == (3, toy.VOCAB_SIZE)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits[2], toy.history_logits([5, 6, 7]))


def test_progress_bar(llm: LLM, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    llm.generate(["abc", "the"], PARAMS, progress=True)
    assert "Generating" in capsys.readouterr().out
    llm.generate(["abc", "the"], PARAMS)
    assert capsys.readouterr().out == ""


def test_closing(toy: Any) -> None:
    with LLM(toy.make_model(), executor=toy.make_config().executor) as llm:
        stream = llm.stream("abc", PARAMS)
        next(stream)
    assert llm._core.executor.closed  # type: ignore[attr-defined]
    assert [delta.finish_reason for delta in stream] == ["cancelled"]
    llm.close()
    with pytest.raises(UnavailableError):
        llm.generate("abc", PARAMS)
    with pytest.raises(UnavailableError):
        llm.logits([5])


def test_requests_are_made_when_their_turn_is_near(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True)
    prompts = [[3 + number % 20] * (1 + number % 9) for number in range(300)]
    found = {}
    most = 0
    for place, output in llm.generate_each(prompts, params):
        found[place] = output.outputs
        most = max(most, len(llm._core._requests))
    assert sorted(found) == list(range(300))
    assert most <= 32 + 64
    for place in (0, 150, 299):
        assert llm.generate(prompts[place], params)[0].outputs == found[place]
