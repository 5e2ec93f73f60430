from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lepton.cli.conversation import Fragment, RemoteResponder
from lepton.engine import SamplingParams
from lepton.errors import ConfigurationError, EngineError, RequestError

MESSAGES = [{"role": "user", "content": "Hello"}]


class FakeServer:
    """Answers /v1/models, and a chat request with whatever it was told to."""

    def __init__(self) -> None:
        self.status = 200
        self.answer = b""
        self.models = b'{"data": [{"id": "served"}]}'
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""

    def events(self, *events: object) -> None:
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        self.answer = "".join([": ping\n\n", *lines, "data: [DONE]\n\n"]).encode()


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    state = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, state.models)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            state.bodies.append(json.loads(self.rfile.read(length)))
            state.keys.append(self.headers.get("Authorization"))
            self._send(state.status, state.answer)

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def _chunk(text: str | None, finish_reason: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_streamed_answer(fake: FakeServer, suffix: str) -> None:
    fake.events(_chunk(""), _chunk("Hi"), _chunk(" there"), _chunk(None, "stop"), {"choices": []})
    responder = RemoteResponder(fake.url + suffix, None, "secret")
    params = SamplingParams(temperature=0.5, stop=("x",))
    fragments = list(responder.answer(MESSAGES, params))
    responder.close()
    assert fragments == [
        Fragment("", 0),
        Fragment("Hi", 1),
        Fragment(" there", 1),
        Fragment("", 0, "stop"),
    ]
    assert fake.keys == ["Bearer secret"]
    assert fake.bodies == [
        {
            "model": "served",
            "messages": MESSAGES,
            "stream": True,
            "temperature": 0.5,
            "stop": ["x"],
        }
    ]


def test_refusal_is_told_in_the_servers_words(fake: FakeServer) -> None:
    fake.status = 400
    fake.answer = b'{"error": {"message": "the prompt is too long"}}'
    with pytest.raises(RequestError, match="HTTP 400: the prompt is too long"):
        list(RemoteResponder(fake.url, "m", None).answer(MESSAGES, SamplingParams()))


def test_refusal_without_words(fake: FakeServer) -> None:
    fake.status = 502
    fake.answer = b"<html>"
    with pytest.raises(RequestError, match="HTTP 502: Bad Gateway"):
        list(RemoteResponder(fake.url, "m", None).answer(MESSAGES, SamplingParams()))


def test_error_within_the_stream(fake: FakeServer) -> None:
    fake.events(_chunk("Hi"), {"error": {"message": "the server is stopping"}})
    with pytest.raises(EngineError, match="the server is stopping"):
        list(RemoteResponder(fake.url, "m", None).answer(MESSAGES, SamplingParams()))


@pytest.mark.parametrize("line", [b"data: {\n\n", b"data: 7\n\n", b'data: {"choices": [{}]}\n\n'])
def test_rubbish_within_the_stream(fake: FakeServer, line: bytes) -> None:
    fake.answer = line
    with pytest.raises(EngineError, match="no chat event"):
        list(RemoteResponder(fake.url, "m", None).answer(MESSAGES, SamplingParams()))


@pytest.mark.parametrize("models", [b"<html>", b"{}", b'{"data": []}', b"[]"])
def test_not_such_a_server(fake: FakeServer, models: bytes) -> None:
    fake.models = models
    with pytest.raises(ConfigurationError, match="OpenAI-compatible"):
        RemoteResponder(fake.url, None, None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "http://[::"])
def test_no_server_at_all(url: str) -> None:
    with pytest.raises(ConfigurationError):
        RemoteResponder(url, None, None)
