"""The application over a scripted engine: every answer that needs no real model."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from lepton.engine import OutputDelta, RequestOptions, Usage
from lepton.errors import CapacityError, RequestError, UnavailableError
from lepton.security import hash_key

CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION: dict[str, Any] = {"model": "scripted", "prompt": "hi"}


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["message"]
    assert "Traceback" not in response.text
    return error


def events_of(response: httpx.Response) -> list[Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.strip().split("\n\n")
    data = [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return [json.loads(each) for each in data]


async def test_chat_completion_has_openai_shape(connect: Any, engine: Any) -> None:
    response = await connect().post("/v1/chat/completions", json=CHAT)
    answer = response.json()
    assert list(answer)[:5] == ["id", "object", "created", "model", "choices"]
    assert answer["id"].startswith("chatcmpl-")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "abc", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["usage"]["prompt_tokens"] == len("user: hi\n")
    assert engine.streams[0].closed


async def test_chat_stream_names_the_role_first_and_the_reason_last(connect: Any) -> None:
    body = CHAT | {"stream": True, "n": 2, "stream_options": {"include_usage": True}}
    events = events_of(await connect().post("/v1/chat/completions", json=body))
    usage = events.pop()
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 6
    assert all(event["usage"] is None for event in events)
    assert len({event["id"] for event in events}) == 1
    for index in (0, 1):
        choices = [each for event in events for each in event["choices"] if each["index"] == index]
        assert choices[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(each["delta"].get("content", "") for each in choices) == "abc"
        assert [each["finish_reason"] for each in choices] == [None] * 4 + ["stop"]


async def test_without_stream_options_no_usage_is_streamed(connect: Any) -> None:
    events = events_of(await connect().post("/v1/chat/completions", json=CHAT | {"stream": True}))
    assert all("usage" not in event and event["choices"] for event in events)


async def test_completions_number_choices_by_prompt_then_n(connect: Any, engine: Any) -> None:
    body = COMPLETION | {"prompt": ["x", "y"], "n": 2, "echo": True}
    answer = (await connect().post("/v1/completions", json=body)).json()
    assert [each["index"] for each in answer["choices"]] == [0, 1, 2, 3]
    assert [each["text"] for each in answer["choices"]] == ["xabc", "xabc", "yabc", "yabc"]
    assert answer["usage"]["completion_tokens"] == 12
    assert engine.params[0].max_tokens == 16
    streamed = events_of(await connect().post("/v1/completions", json=body | {"stream": True}))
    texts = dict.fromkeys(range(4), "")
    for event in streamed:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
    assert list(texts.values()) == ["xabc", "xabc", "yabc", "yabc"]


async def test_parameters_reach_the_engine(connect: Any, engine: Any) -> None:
    wishes = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "n": 2, "seed": -3,
        "presence_penalty": 1.5, "frequency_penalty": -1, "repetition_penalty": 1.1,
        "min_tokens": 1, "ignore_eos": True,
    }  # fmt: skip
    more = {"stop": "END", "stop_token_ids": [7], "max_completion_tokens": 9,
            "logprobs": True, "top_logprobs": 3, "user": "u", "metadata": {"a": "b"}}  # fmt: skip
    response = await connect().post("/v1/chat/completions", json=CHAT | wishes | more)
    assert response.status_code == 200, response.text
    (params,) = engine.params
    assert {name: getattr(params, name) for name in wishes} == wishes
    assert (params.stop, params.stop_token_ids) == (("END",), (7,))
    assert (params.max_tokens, params.logprobs) == (9, 3)


async def test_an_error_before_the_first_token_is_a_status(connect: Any, engine: Any) -> None:
    client = connect()
    for refusal, status, retry in (
        (CapacityError("full", retry_after=2.2), 429, "3"),
        (UnavailableError("closing"), 503, "5"),
        (RequestError("no", param="prompt", code="context_length_exceeded"), 400, None),
        (RuntimeError("secret detail"), 500, None),
    ):
        engine.refusal = refusal
        for stream in (False, True):
            response = await client.post("/v1/completions", json=COMPLETION | {"stream": stream})
            error = error_of(response, status)
            assert response.headers.get("retry-after") == retry
            assert "secret" not in error["message"]


async def test_keys_are_tenants_and_bound_priorities(
    connect: Any, engine: Any, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nname = "desk"\nsha256 = "{hash_key("k")}"\npriority = 2\n')
    keys.chmod(0o600)
    client = connect(keys_file=keys, max_queue_seconds=7, request_seconds=90)
    client.headers["authorization"] = "Bearer k"
    for fields, headers, expected in (
        ({}, {}, RequestOptions("desk", 2, None, 7, 90)),
        ({"priority": -5, "timeout": 3}, {}, RequestOptions("desk", 2, None, 7, 3)),
        ({"priority": 5, "timeout": 300}, {}, RequestOptions("desk", 5, None, 7, 90)),
        ({"cache_salt": "s"}, {"x-request-timeout": "4.5"},
         RequestOptions("desk", 2, "desk s", 7, 4.5)),
    ):  # fmt: skip
        answer = await client.post("/v1/chat/completions", json=CHAT | fields, headers=headers)
        assert answer.status_code == 200, answer.text
        assert replace(engine.options.pop(), since=None) == expected
    assert set(engine.asked_for_room) == {("desk", 2), ("desk", 5)}
    for bad in ("soon", "-1", "nan"):
        refused = await client.post(
            "/v1/completions", json=COMPLETION, headers={"x-request-timeout": bad}
        )
        assert error_of(refused, 400)["param"] == "x-request-timeout"


async def test_a_request_whose_time_is_up(connect: Any, engine: Any) -> None:
    late = OutputDelta("", 0, "", (), finish_reason="timeout", usage=Usage(2, 0), error="late")
    client = connect()
    for stream in (False, True):
        engine.script = lambda prompt, params: [late]
        body = CHAT | {"stream": stream}
        waited = await client.post("/v1/chat/completions", json=body)
        assert error_of(waited, 429)["code"] == "rate_limit_exceeded"
        assert int(waited.headers["retry-after"]) >= 1
        unanswered = await client.post("/v1/chat/completions", json=body | {"timeout": 1e-6})
        assert error_of(unanswered, 504)["code"] == "timeout"
    engine.script = lambda prompt, params: [OutputDelta("", 0, "a", (1,)), late]
    partial = (await client.post("/v1/chat/completions", json=CHAT)).json()
    assert partial["choices"][0]["message"]["content"] == "a"
    assert partial["choices"][0]["finish_reason"] == "timeout"


async def test_when_one_prompt_is_refused_the_others_are_aborted(connect: Any, engine: Any) -> None:
    engine.refusal, engine.refuse_after = CapacityError("full"), 2
    response = await connect().post(
        "/v1/completions", json=COMPLETION | {"prompt": ["a", "b", "c"]}
    )
    error_of(response, 429)
    assert engine.aborted == [stream.request_id for stream in engine.streams]
    assert len(engine.aborted) == 2


@pytest.mark.parametrize(
    ("end", "code", "status"),
    [
        (OutputDelta("", 0, "", (), finish_reason="error", error="secret"), "internal_error", 500),
        (OutputDelta("", 0, "", (), finish_reason="cancelled"), "unavailable", 503),
        (RuntimeError("secret"), "internal_error", 500),
    ],
)
async def test_an_error_in_mid_stream_is_an_event(
    connect: Any, engine: Any, end: Any, code: str, status: int
) -> None:
    engine.script = lambda prompt, params: [OutputDelta("", 0, "a", (1,)), end]
    client = connect()
    *begin, last = events_of(
        await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    )
    assert begin[-1]["choices"][0]["delta"] == {"content": "a"}
    assert last["error"]["code"] == code
    assert "secret" not in json.dumps(last)
    whole = await client.post("/v1/chat/completions", json=CHAT)
    assert error_of(whole, status)["code"] == code
    assert all(stream.closed for stream in engine.streams)


async def test_what_fails_before_the_first_token_is_a_status_in_streams_too(
    connect: Any, engine: Any
) -> None:
    engine.script = lambda prompt, params: [
        OutputDelta("", 0, "", (), finish_reason="error", error="secret")
    ]
    response = await connect().post("/v1/chat/completions", json=CHAT | {"stream": True})
    assert error_of(response, 500)["code"] == "internal_error"


async def test_silence_is_bridged_by_comments(connect: Any, engine: Any, script: Any) -> None:
    gate = asyncio.Event()
    engine.script = lambda prompt, params: [gate, *script("abc")(prompt, params)]
    client = connect(heartbeat_seconds=0.01)
    asyncio.get_running_loop().call_later(0.1, gate.set)
    response = await client.post("/v1/completions", json=COMPLETION | {"stream": True})
    assert response.text.startswith(": waiting\n\n")
    assert "".join(event["choices"][0]["text"] for event in events_of(response)) == "abc"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"n": 10**9}, "n", "limit_exceeded"),
        ({"n": 10**30}, "n", "invalid_type"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"n": "2"}, "n", "invalid_type"),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_tokens": 600}, "max_tokens", "context_length_exceeded"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"top_p": -0.1}, "top_p", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"stop": ["x"] * 17}, "stop", "limit_exceeded"),
        ({"stop": "x" * 257}, "stop", "limit_exceeded"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": [1]}, "stop[0]", "invalid_type"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "limit_exceeded"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "unsupported_parameter"),
        ({"tempreature": 1}, "tempreature", "unknown_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "pirate", "content": "x"}]}, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].role",
            "unsupported_parameter",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            "unsupported_parameter",
        ),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type"),
        ({"messages": [CHAT["messages"][0]] * 1001}, "messages", "limit_exceeded"),
        (
            {"messages": [{"role": "user", "content": "x" * 600}]},
            "messages",
            "context_length_exceeded",
        ),
    ],
)
async def test_bad_fields_are_named(
    connect: Any, engine: Any, change: dict[str, Any], param: str, code: str
) -> None:
    error = error_of(await connect().post("/v1/chat/completions", json=CHAT | change), 400)
    assert (error["param"], error["code"]) == (param, code)
    assert param.rpartition(".")[2].partition("[")[0] in error["message"]
    assert not engine.streams


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"suffix": "end"}, "suffix", "unsupported_parameter"),
        ({"best_of": 2}, "best_of", "unsupported_parameter"),
        ({"prompt": ["a"] * 65}, "prompt", "limit_exceeded"),
        ({"prompt": ["a"] * 20, "n": 10}, "n", "limit_exceeded"),
        ({"prompt": [1, 256]}, "prompt", "invalid_value"),
        ({"prompt": [-1]}, "prompt", "invalid_value"),
        ({"prompt": [10**30]}, "prompt", "invalid_type"),
        ({"prompt": {}}, "prompt", "invalid_type"),
        ({"logprobs": 21}, "logprobs", "limit_exceeded"),
    ],
)
async def test_bad_completion_fields_are_named(
    connect: Any, change: dict[str, Any], param: str, code: str
) -> None:
    error = error_of(await connect().post("/v1/completions", json=COMPLETION | change), 400)
    assert error["param"] == param
    assert error["code"] in (code, "invalid_value")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b'{"model": "\xc3\x28"}',
        b'{"model": "scripted", "prompt": "\\ud800"}',
        b'{"model": "scripted", "prompt": "x", "temperature": NaN}',
        b'{"model": "scripted", "prompt": "x", "temperature": 1e999}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": "scripted", "prompt": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
async def test_bad_json_is_a_400(connect: Any, body: bytes) -> None:
    response = await connect().post(
        "/v1/completions", content=body, headers={"content-type": "application/json"}
    )
    error_of(response, 400)


async def test_no_damage_to_a_body_is_the_servers_fault(connect: Any) -> None:
    client = connect()
    valid = json.dumps(
        CHAT | {"n": 2, "temperature": 0.5, "stop": ["a", "b"], "stream_options": None}
    ).encode()
    random = Random(1)
    statuses = set()
    for _ in range(300):
        body = bytearray(valid)
        for _ in range(random.randint(1, 3)):
            start = random.randrange(len(body))
            kept = body[start : start + random.choice((0, 1, 1, 8))]
            new = random.choice((b"", b"-", b"9", b"null", b"[[", b'"', b"\xff", b"\\u0000"))
            body[start : start + len(kept)] = new if random.random() < 0.8 else kept * 2
        response = await client.post(
            "/v1/chat/completions",
            content=bytes(body),
            headers={"content-type": "application/json"},
        )
        statuses.add(response.status_code)
        if response.status_code != 200:
            error_of(response, response.status_code)
    assert statuses <= {200, 400, 404}
    assert 400 in statuses


@pytest.mark.parametrize("route", ["completions", "chat/completions"])
async def test_time_is_up_before_a_prompt_is_tokens(connect: Any, engine: Any, route: str) -> None:
    encode, may_end = engine.tokenizer.encode, threading.Event()

    def slow_encode(text: str, **options: Any) -> list[int]:
        assert may_end.wait(60)
        ids: list[int] = encode(text, **options)
        return ids

    engine.tokenizer.encode = slow_encode
    body = (COMPLETION if route == "completions" else CHAT) | {"timeout": 0.05}
    late = await connect().post(f"/v1/{route}", json=body)
    may_end.set()
    assert error_of(late, 504)["code"] == "timeout"
    assert engine.streams == []


async def test_a_panic_of_the_tokenizer_is_a_500(connect: Any, engine: Any) -> None:
    class Panic(BaseException):
        """As pyo3 raises it."""

    def encode(text: str, **options: Any) -> list[int]:
        raise Panic("secret")

    engine.tokenizer.encode = encode
    response = await connect().post("/v1/completions", json=COMPLETION)
    assert error_of(response, 500)["code"] == "internal_error"
    assert "secret" not in response.text


async def test_a_body_that_is_no_json_or_compressed_is_a_415(connect: Any) -> None:
    client = connect()
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ):
        error_of(await client.post("/v1/completions", content=b"{}", headers=headers), 415)


async def test_large_bodies_are_refused_before_they_are_read(connect: Any) -> None:
    client = connect(max_body_bytes=10_000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b" " * 1000

    headers = {"content-type": "application/json"}
    error_of(await client.post("/v1/completions", content=endless(), headers=headers), 413)
    assert sent < 20_000
    declared = {**headers, "content-length": str(50 * 1024**2)}
    sent = 0
    error_of(await client.post("/v1/completions", content=endless(), headers=declared), 413)
    assert sent == 0


async def test_a_body_that_does_not_arrive_is_a_408(connect: Any) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    response = await connect(body_seconds=0.05).post(
        "/v1/completions", content=stalled(), headers={"content-type": "application/json"}
    )
    error_of(response, 408)


async def test_unknown_addresses_methods_and_models(connect: Any) -> None:
    client = connect()
    assert error_of(await client.get("/v1/nothing"), 404)["code"] == "not_found"
    assert error_of(await client.get("/nothing"), 404)["code"] == "not_found"
    assert error_of(await client.get("/web/../app.py"), 404)
    wrong = await client.get("/v1/completions")
    assert error_of(wrong, 405)["code"] == "method_not_allowed"
    assert wrong.headers["allow"] == "POST"
    for response in (
        await client.get("/v1/models/other/model"),
        await client.post("/v1/completions", json=COMPLETION | {"model": "x" * 10_000}),
        await client.post("/tokenize", json={"model": "other", "prompt": "x"}),
    ):
        error = error_of(response, 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert len(error["message"]) < 300


async def test_models(connect: Any) -> None:
    client = connect(model_name="org/name")
    (model,) = (await client.get("/v1/models")).json()["data"]
    assert (model["id"], model["object"]) == ("org/name", "model")
    assert (await client.get("/v1/models/org/name")).json() == model


async def test_tokenize_and_detokenize(connect: Any) -> None:
    client = connect()
    answer = (
        await client.post("/tokenize", json={"prompt": "hé", "return_token_strs": True})
    ).json()
    assert answer["tokens"] == list("hé".encode())
    assert answer["count"] == 3
    assert len(answer["token_strs"]) == 3
    assert (await client.post("/detokenize", json={"tokens": answer["tokens"]})).json() == {
        "prompt": "hé"
    }
    chat = (await client.post("/tokenize", json={"messages": CHAT["messages"]})).json()
    assert bytes(chat["tokens"]) == b"user: hi\n"
    error_of(await client.post("/detokenize", json={"tokens": [256]}), 400)
    error_of(await client.post("/tokenize", json={}), 400)


async def test_keys_guard_the_api_but_not_health(connect: Any, engine: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'[[keys]]\nname = "desk"\nsha256 = "{hash_key("k")}"\nmax_tokens = 5\n'
        "requests_per_minute = 4\n"
    )
    keys.chmod(0o600)
    client = connect(keys_file=keys)
    for path in ("/v1/models", "/v1/nothing", "/tokenize"):
        response = await client.get(path)
        assert error_of(response, 401)["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/livez", "/readyz", "/metrics", "/"):
        assert (await client.get(path)).status_code == 200
    client.headers["authorization"] = "Bearer k"
    post = client.post
    assert (await post("/v1/completions", json=COMPLETION)).status_code == 200
    assert engine.params[0].max_tokens == 5
    assert error_of(await post("/v1/completions", json=COMPLETION | {"max_tokens": 6}), 400)
    assert (await post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert engine.params[1].max_tokens == 5
    assert (await post("/tokenize", json={"prompt": ""})).status_code == 200
    refused = await post("/v1/completions", json=COMPLETION)
    assert error_of(refused, 429)["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await client.get("/v1/models")).status_code == 200


async def test_health_follows_the_engine(connect: Any, engine: Any) -> None:
    client = connect(liveness_seconds=5)
    assert (await client.get("/livez")).status_code == 200
    engine.silent_seconds = 6
    assert (await client.get("/livez")).status_code == 503
    assert (await client.get("/readyz")).status_code == 503
    engine.silent_seconds, engine.alive = 0, False
    assert (await client.get("/livez")).status_code == 503


async def test_draining_refuses_the_api_and_readiness_only(connect: Any) -> None:
    client = connect()
    client._transport.app.state.context.admission.drain(60)
    response = await client.post("/v1/completions", json=COMPLETION)
    assert error_of(response, 503)["code"] == "unavailable"
    assert response.headers["retry-after"] == "5"
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/livez")).status_code == 200


async def test_metrics_count_requests_by_route_and_tokens(connect: Any) -> None:
    client = connect()
    await client.post("/v1/completions", json=COMPLETION)
    await client.get("/v1/nothing/a")
    await client.get("/v1/nothing/b")
    await client.get("/web/main.js")
    await client.get("/web/nothing.js")
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = response.text.splitlines()
    for line in (
        'lepton_http_requests_total{method="POST",route="/v1/completions",status="200"} 1.0',
        'lepton_http_requests_total{method="GET",route="other",status="404"} 2.0',
        'lepton_http_requests_total{method="GET",route="/web",status="200"} 1.0',
        'lepton_http_requests_total{method="GET",route="/web",status="404"} 1.0',
        'lepton_request_success_total{finished_reason="stop",model_name="scripted"} 1.0',
        'lepton_num_requests_running{model_name="scripted"} 1.0',
        'lepton_num_requests_waiting{model_name="scripted"} 2.0',
        'lepton_kv_cache_usage_perc{model_name="scripted"} 0.75',
        'lepton_prompt_tokens_total{model_name="scripted"} 7.0',
        'lepton_generation_tokens_total{model_name="scripted"} 8.0',
        'lepton_time_to_first_token_seconds_count{model_name="scripted"} 1.0',
        'lepton_inter_token_latency_seconds_count{model_name="scripted"} 2.0',
        'lepton_request_generation_tokens_sum{model_name="scripted"} 3.0',
    ):
        assert line in lines


async def test_request_ids_are_kept_when_harmless(connect: Any) -> None:
    client = connect()
    given = await client.get("/livez", headers={"x-request-id": "trace-1/a=b"})
    assert given.headers["x-request-id"] == "trace-1/a=b"
    for bad in ("a b", "x" * 129, "é".encode(), ""):
        response = await client.get("/livez", headers={"x-request-id": bad})
        assert response.headers["x-request-id"].startswith("req-")


async def test_one_log_line_per_request_without_its_text(
    connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect()
    with caplog.at_level(logging.INFO, "lepton.server"):
        await client.post(
            "/v1/completions",
            json=COMPLETION | {"prompt": "very private"},
            headers={"x-request-id": "one"},
        )
    (record,) = caplog.records
    fields = record.fields  # type: ignore[attr-defined]
    assert "private" not in str(vars(record))
    assert fields["request_id"] == "one"
    assert fields["status"] == 200
    assert fields["key"] == "anonymous"
    assert fields["model"] == "scripted"
    assert (fields["prompt_tokens"], fields["completion_tokens"]) == (12, 3)
    assert fields["finish_reasons"] == ["stop"]


async def test_page_has_a_strict_policy(connect: Any) -> None:
    client = connect()
    for path in ("/", "/web/main.js"):
        response = await client.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        tag = response.headers["etag"]
    again = await client.get("/web/main.js", headers={"if-none-match": tag})
    assert again.status_code == 304


async def test_foreign_host_names_are_refused_on_a_local_server(
    connect: Any, tmp_path: Path
) -> None:
    client = connect(allowed_hosts=("chat.example.com",))
    for host in ("evil.example.com", "localhost.evil.com:80", "", "127.0.0.1.evil.com"):
        error_of(await client.get("/v1/models", headers={"host": host}), 403)
    for host in ("localhost:8000", "127.0.0.1", "[::1]:1", "LOCALHOST", "chat.example.com"):
        response = await client.get("/v1/models", headers={"host": host})
        assert response.status_code == 200
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nname = "desk"\nsha256 = "{hash_key("k")}"\n')
    with_key = {"host": "any.example.com", "authorization": "Bearer k"}
    assert (await connect(keys_file=keys).get("/v1/models", headers=with_key)).status_code == 200


async def test_other_origins_need_permission(connect: Any) -> None:
    origin = {"origin": "https://chat.example.com"}
    ask = {**origin, "access-control-request-method": "POST",
           "access-control-request-headers": "authorization,content-type"}  # fmt: skip
    closed = await connect().options("/v1/chat/completions", headers=ask)
    assert "access-control-allow-origin" not in closed.headers
    client = connect(cors_origins=("https://chat.example.com",))
    opened = await client.options("/v1/chat/completions", headers=ask)
    assert opened.headers["access-control-allow-origin"] == "https://chat.example.com"
    other = await client.get("/v1/models", headers={"origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in other.headers


async def test_openapi_describes_the_bodies(connect: Any) -> None:
    document = (await connect().get("/openapi.json")).json()
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    properties = body["content"]["application/json"]["schema"]["properties"]
    assert properties["messages"]["items"]["properties"]["role"]
    assert "$ref" not in json.dumps(document)


async def test_a_limit_leaves_room_for_a_long_prompt(connect: Any, engine: Any) -> None:
    client = connect(max_tokens=300)
    answer = await client.post("/v1/completions", json=COMPLETION | {"prompt": "x" * 500})
    assert answer.status_code == 200
    messages = [{"role": "user", "content": "x" * 400}]
    answer = await client.post("/v1/chat/completions", json=CHAT | {"messages": messages})
    assert answer.status_code == 200
    assert engine.params[0].max_tokens == 12
    assert 0 < engine.params[1].max_tokens < 112
    refused = await client.post("/v1/completions", json=COMPLETION | {"prompt": "x" * 100_000})
    assert error_of(refused, 400)["code"] == "context_length_exceeded"
