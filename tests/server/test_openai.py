"""The official client against a real server with a real model."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
TOPICS = ["cats", "rivers", "bread", "Rome", "chess", "rain", "music", "trains"]


def ask(client: openai.OpenAI, messages: Any = FRANCE, **wishes: Any) -> Any:
    wishes = {"temperature": 0, "max_tokens": 16, **wishes}
    return client.chat.completions.create(model="smollm2", messages=messages, **wishes)


def joined(stream: Any) -> tuple[str, str | None]:
    text, reason = "", None
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return text, reason


def test_the_capital_of_france(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"max_tokens": 3},
        {"stop": [" is"]},
        {"temperature": 1, "seed": 7, "top_p": 0.9, "max_tokens": 40},
        {"temperature": 1.5, "seed": 3, "extra_body": {"top_k": 20, "min_tokens": 8}},
    ],
)
def test_streamed_equals_unstreamed(client: openai.OpenAI, wishes: dict[str, Any]) -> None:
    whole = ask(client, **wishes)
    text, reason = joined(ask(client, stream=True, **wishes))
    assert text == whole.choices[0].message.content
    assert text
    assert reason == whole.choices[0].finish_reason


def test_chinese_and_emoji_stream_whole(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Repeat exactly: 你好，世界 🙂🙂 naïve"}]
    whole = ask(client, messages, max_tokens=40)
    text, _ = joined(ask(client, messages, max_tokens=40, stream=True))
    assert text == whole.choices[0].message.content


def test_stream_usage_equals_unstreamed_usage(client: openai.OpenAI) -> None:
    whole = ask(client, max_tokens=5)
    *_, last = ask(client, max_tokens=5, stream=True, stream_options={"include_usage": True})
    assert last.usage.completion_tokens == whole.usage.completion_tokens == 5
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens


def test_eight_clients_at_once_get_the_answers_of_one_at_a_time(server: Any) -> None:
    def answer(topic: str) -> str:
        messages = [{"role": "user", "content": f"Write one sentence about {topic}."}]
        with server.client() as client:
            if topic in TOPICS[::2]:
                return joined(ask(client, messages, stream=True))[0]
            return ask(client, messages).choices[0].message.content

    alone = [answer(topic) for topic in TOPICS]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(answer, TOPICS))
    assert together == alone
    assert len(set(alone)) == 8


async def test_async_client_streams(server: Any) -> None:
    async with server.async_client() as client:
        stream = await client.chat.completions.create(
            model="smollm2", messages=FRANCE, temperature=0, max_tokens=16, stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert "Paris" in text


def test_n_and_seed(client: openai.OpenAI) -> None:
    wishes = {"n": 3, "temperature": 1.2, "seed": 11, "max_tokens": 16}
    first, second = (ask(client, **wishes) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) > 1
    streamed = dict.fromkeys(range(3), "")
    for chunk in ask(client, stream=True, **wishes):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert list(streamed.values()) == texts


def test_chat_logprobs_are_of_the_chosen_tokens(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=6, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == 6
    spelled = b"".join(bytes(entry.bytes) for entry in content).decode()
    assert spelled == answer.choices[0].message.content
    for entry in content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0
    streamed = [
        entry
        for chunk in ask(client, max_tokens=6, logprobs=True, top_logprobs=3, stream=True)
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content
    ]
    assert [entry.token for entry in streamed] == [entry.token for entry in content]


def test_completion_echo_scores_the_prompt(client: openai.OpenAI) -> None:
    prompt = "你好! The capital of France is Paris."
    answer = client.completions.create(
        model="smollm2", prompt=prompt, max_tokens=0, echo=True, logprobs=1
    )
    choice = answer.choices[0]
    assert choice.text == prompt
    assert choice.finish_reason == "length"
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert len(logprobs.tokens) == len(logprobs.text_offset) == answer.usage.prompt_tokens
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert prompt[offset:].startswith(token) or offset < 2
    paris = logprobs.tokens.index(" Paris")
    assert logprobs.token_logprobs[paris] > -3


def test_completion_prompts_as_text_and_ids_agree(client: openai.OpenAI, server: Any) -> None:
    prompts = ["Once upon a time", "1, 2, 3, 4,"]
    ids = [
        httpx.post(f"{server.url}/tokenize", json={"prompt": prompt}).json()["tokens"]
        for prompt in prompts
    ]
    wishes: dict[str, Any] = {"model": "smollm2", "temperature": 0, "max_tokens": 8}
    by_text = client.completions.create(prompt=prompts, **wishes)
    by_ids = client.completions.create(prompt=ids, **wishes)
    one = client.completions.create(prompt=ids[1], **wishes)
    assert [each.text for each in by_text.choices] == [each.text for each in by_ids.choices]
    assert one.choices[0].text == by_text.choices[1].text
    streamed = ["", ""]
    for chunk in client.completions.create(prompt=prompts, stream=True, **wishes):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == [each.text for each in by_text.choices]


def test_default_length_of_completions_is_sixteen(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="smollm2", prompt="Once", extra_body={"ignore_eos": True}
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_tokenize_is_what_the_model_reads(client: openai.OpenAI, server: Any) -> None:
    counted = httpx.post(f"{server.url}/tokenize", json={"messages": FRANCE}).json()
    assert counted["count"] == ask(client, max_tokens=1).usage.prompt_tokens
    assert counted["max_model_len"] == 1024
    text = "Grüße, 世界! 🙂\n  def f(): pass"
    tokens = httpx.post(f"{server.url}/tokenize", json={"prompt": text}).json()["tokens"]
    back = httpx.post(f"{server.url}/detokenize", json={"tokens": tokens}).json()
    assert back == {"prompt": text}


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["smollm2"]
    assert client.models.retrieve("smollm2").id == "smollm2"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"


class Undisturbed:
    """A long stream that runs beside a test and must come out as it did alone."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._alone = self._tell()
        self._threads = ThreadPoolExecutor(1)

    def _tell(self) -> str:
        messages = [{"role": "user", "content": "Tell me a long story about a river."}]
        with self._server.client() as client:
            return joined(
                ask(client, messages, max_tokens=120, stream=True, extra_body={"ignore_eos": True})
            )[0]

    def __enter__(self) -> None:
        self._beside = self._threads.submit(self._tell)

    def __exit__(self, *error: object) -> None:
        assert self._beside.result() == self._alone


def raw(body: bytes) -> dict[str, Any]:
    return {"content": body, "headers": {"content-type": "application/json"}}


def chat(**change: Any) -> dict[str, Any]:
    return {"json": {"model": "smollm2", "messages": FRANCE, "max_tokens": 4, **change}}


BAD = {
    "malformed JSON": (raw(b'{"model": '), 400),
    "invalid UTF-8": (raw(b'{"model": "\xc3\x28"}'), 400),
    "lone surrogate": (
        raw(b'{"model":"smollm2","messages":[{"role":"user","content":"\\ud800"}]}'),
        400,
    ),
    "NaN": (raw(b'{"model":"smollm2","messages":[],"temperature":NaN}'), 400),
    "deep nesting": (raw(b'{"messages":' + b"[" * 200_000), 400),
    "wrong type": (chat(temperature="warm"), 400),
    "unknown model": (chat(model="gpt-4"), 404),
    "too long a prompt": (
        chat(messages=[{"role": "user", "content": "river " * 5000}]),
        400,
    ),
    "n": (chat(n=10**9), 400),
    "negative max_tokens": (chat(max_tokens=-1), 400),
    "unsupported field": (chat(tools=[{"type": "function", "function": {"name": "f"}}]), 400),
    "50 MB": (raw(b" " * 50 * 1024**2), 413),
}


def test_bad_input_is_answered_while_another_stream_goes_on(server: Any) -> None:
    beside = Undisturbed(server)
    with beside, httpx.Client(base_url=server.url, timeout=60) as http:
        for name, (request, status) in BAD.items():
            response = http.post("/v1/chat/completions", **request)
            assert response.status_code == status, name
            error = response.json()["error"]
            assert error["message"], name
            assert error["type"] == "invalid_request_error", name

        def chunks() -> Any:
            for _ in range(50):
                yield b" " * 1024**2

        response = http.post(
            "/v1/chat/completions",
            content=chunks(),
            headers={"content-type": "application/json"},
        )
        assert response.status_code == 413


async def settled(server: Any) -> Any:
    """The engine's statistics once nothing runs or waits."""
    async with asyncio.timeout(60):
        while (stats := server.engine.stats()).running or stats.waiting:
            await asyncio.sleep(0.05)
    return stats


@pytest.mark.parametrize("stream", [True, False])
async def test_a_disconnect_ends_the_generation(server: Any, stream: bool) -> None:
    before = await settled(server)
    body = json.dumps(
        {"model": "smollm2", "messages": FRANCE, "stream": stream, "ignore_eos": True,
         "max_tokens": 900}
    ).encode()  # fmt: skip
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    if stream:
        await reader.readuntil(b"data: ")
    async with asyncio.timeout(60):
        while server.engine.stats().generation_tokens_total < before.generation_tokens_total + 3:
            await asyncio.sleep(0.01)
    writer.close()
    await writer.wait_closed()
    after = await settled(server)
    generated = after.generation_tokens_total - before.generation_tokens_total
    assert 3 <= generated < 600
    assert after.used_blocks <= before.used_blocks


async def test_the_event_loop_stays_free_while_long_text_is_tokenized(server: Any) -> None:
    text = "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(300_000))
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        busy = asyncio.ensure_future(http.post("/tokenize", json={"prompt": text}))
        answered = 0
        while not busy.done():
            assert (await http.get("/livez")).status_code == 200
            answered += 1
    assert (await busy).json()["count"] > 300_000
    assert answered > 1


def test_page_and_metrics_are_served(server: Any) -> None:
    page = httpx.get(server.url)
    assert page.headers["content-type"].startswith("text/html")
    assert "'self'" in page.headers["content-security-policy"]
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'lepton_generation_tokens_total{model_name="smollm2"}' in metrics
    assert Path(server.engine.model.path).name not in metrics
