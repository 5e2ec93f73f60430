"""Clients that do not read, or never ask, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest

from lepton.engine import OutputDelta, Usage
from lepton.errors import CapacityError


def request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def ask_for_life(client: socket.socket) -> None:
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    received = b""
    while not received.endswith(b'{"status":"ok"}'):
        part = client.recv(4096)
        assert part, received
        received += part
    assert received.startswith(b"HTTP/1.1 200")


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reader_that_stops_is_cut_off_and_its_request_ended(
    scripted_port: Any, engine: Any
) -> None:
    engine.script = lambda prompt, params: [
        OutputDelta("", 0, "x" * 2**16, (1,)) for _ in range(1000)
    ]
    port = scripted_port(write_seconds=0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        client.sendall(request({"model": "scripted", "prompt": "hi", "stream": True}))
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        wait_until(lambda: engine.streams[0].closed)
        assert not engine.streams[0].finished
        unsent = len(engine.streams[0]._steps)
        assert unsent > 900, "what was not read has not been taken from the engine"


def test_whoever_leaves_ends_all_requests_of_a_connection(scripted_port: Any, engine: Any) -> None:
    engine.script = lambda prompt, params: [asyncio.Event()]
    port = scripted_port()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(request({"model": "scripted", "prompt": "hi"}) * 2)
        wait_until(lambda: engine.streams)
    wait_until(lambda: engine.streams[0].closed)
    assert len(engine.streams) == 1


def test_requests_without_end_before_the_first_answer_are_cut_off(
    scripted_port: Any, engine: Any
) -> None:
    engine.script = lambda prompt, params: [asyncio.Event()]
    port = scripted_port()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(request({"model": "scripted", "prompt": "hi"}) * 1000)
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""
    wait_until(lambda: all(stream.closed for stream in engine.streams))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        ask_for_life(client)


def test_a_reader_that_is_only_slow_gets_everything(scripted_port: Any, engine: Any) -> None:
    engine.script = lambda prompt, params: [
        *(OutputDelta("", 0, "x" * 2**14, (1,)) for _ in range(100)),
        OutputDelta("", 0, "", (), finish_reason="stop", usage=Usage(2, 100)),
    ]
    port = scripted_port(write_seconds=30)
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(request({"model": "scripted", "prompt": "hi", "stream": True}))
        while not received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
            part = client.recv(2**14)
            assert part, received[-200:]
            received += part
            time.sleep(0.001)
    assert received.count(b"x") >= 100 * 2**14


def test_a_slow_reader_of_a_large_answer_outlives_the_time_for_reading(
    scripted_port: Any, engine: Any
) -> None:
    engine.script = lambda prompt, params: [
        OutputDelta("", 0, "x" * 2**22, (1,)),
        OutputDelta("", 0, "", (), finish_reason="stop", usage=Usage(2, 1)),
    ]
    port = scripted_port(write_seconds=1)
    received = bytearray()
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        client.sendall(request({"model": "scripted", "prompt": "hi"}))
        while len(received) < 2**22:
            part = client.recv(2**16)
            assert part, len(received)
            received += part
            time.sleep(len(part) / 2**20)
    assert time.monotonic() - started > 3
    assert received.count(b"x") >= 2**22


def test_a_connection_without_a_request_is_closed(scripted_port: Any) -> None:
    port = scripted_port(body_seconds=0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: local")
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_half_a_head_after_an_answer_is_closed(scripted_port: Any) -> None:
    port = scripted_port(body_seconds=0.2, keep_alive_seconds=3600)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        ask_for_life(client)
        client.sendall(b"G")
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_an_idle_connection_outlives_the_time_for_a_head(scripted_port: Any) -> None:
    port = scripted_port(body_seconds=0.2, keep_alive_seconds=3600)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        for _ in range(2):
            ask_for_life(client)
            time.sleep(0.5)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"X-%d: " % n + b"a" * 100 + b"\r\n" for n in range(10)], id="many fields"),
        pytest.param([b"X: ", *(b"a" * 100 for _ in range(100_000))], id="a field without end"),
        pytest.param([b"X: " + b"a" * 1000 + b"\r\n\r\n"], id="whole"),
    ],
)
def test_a_head_that_is_too_large_gets_431(scripted_port: Any, parts: list[bytes]) -> None:
    port = scripted_port(max_head_bytes=500)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        received = b""
        client.settimeout(0.01)
        with suppress(ConnectionError):
            for part in parts:
                client.sendall(part)
                with suppress(TimeoutError):
                    received += client.recv(4096)
                if received:
                    break
        client.settimeout(60)
        with suppress(ConnectionError):
            while more := client.recv(4096):
                received += more
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"connection: close" in head
    assert json.loads(body)["error"]["code"] == "head_too_large"


def test_fields_after_a_body_count_as_head(scripted_port: Any) -> None:
    port = scripted_port(max_head_bytes=500)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\n{\r\n0\r\n" + b"".join(b"X-%d: %0100d\r\n" % (n, n) for n in range(10))
        )
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_a_full_server_refuses_before_it_has_read_and_goes_on(
    scripted_port: Any, engine: Any
) -> None:
    port = scripted_port()
    engine.refusal = CapacityError("full", retry_after=3)
    body = {"model": "scripted", "prompt": "hi"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        for _ in range(3):
            refused = client.post("/v1/completions", content=b"{" * 900_000)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
        engine.refusal = None
        answered = client.post("/v1/completions", json=body)
        assert answered.status_code == 200
    assert len(engine.streams) == 1
