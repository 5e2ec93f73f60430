"""A server that asks for an API key, and one that goes away: real servers, a scripted engine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lepton.server import ServerSettings, bind, create_app
from lepton.server.run import DrainingServer

KEY = "lepton-of-the-tests"


class KeyedServer:
    """Runs in a thread until it is stopped."""

    def __init__(self, engine, settings: ServerSettings) -> None:
        ready = threading.Event()
        self.url = ""

        def on_ready(url: str) -> None:
            self.url = f"{url}/"
            ready.set()

        listener = bind(settings)
        self._server = DrainingServer(create_app(engine, settings), listener, on_ready)
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        assert ready.wait(30)

    def stop(self) -> None:
        self._server.drain()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def keyed_server(engine, tmp_path: Path) -> Iterator[KeyedServer]:
    """A server with one API key."""
    entry = {"name": "tests", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [entry]}))
    keys.chmod(0o600)
    server = KeyedServer(engine, ServerSettings(port=0, keys_file=keys, drain_seconds=1))
    yield server
    server.stop()


@pytest.fixture
def server_url(keyed_server: KeyedServer) -> str:
    """The page here is the keyed server's."""
    return keyed_server.url


@pytest.fixture
def locked(playground, server_url):
    """The page of someone who has no key yet."""
    playground.settings(max_tokens=16)
    playground.page.goto(server_url)
    expect(playground.page.locator("#key-title")).to_have_text("This server needs an API key.")
    return playground


def test_a_key_opens_the_server(locked) -> None:
    page = locked.page
    box = page.locator("#key")
    expect(box).to_be_focused()
    box.fill("wrong")
    box.press("Enter")
    expect(page.locator("#key-title")).to_have_text("The server did not accept the API key.")
    box.fill(KEY)
    box.press("Enter")
    expect(page.locator("#access")).to_be_hidden()
    expect(locked.prompt).to_be_focused()
    assert locked.ask("hello") == "abc"
    page.reload()
    assert locked.ask("again") == "abc"
    stored = page.evaluate("[JSON.stringify(localStorage), JSON.stringify(sessionStorage)]")
    assert KEY not in stored[0]
    assert KEY in stored[1]


def test_a_key_can_be_forgotten(locked) -> None:
    page = locked.page
    page.locator("#key").fill(KEY)
    page.locator("#key").press("Enter")
    expect(page.locator("#model-box[data-state=ready]")).to_be_visible()
    locked.button("Settings").click()
    locked.button("Forget the API key").click()
    expect(page.locator("#key-title")).to_have_text("This server needs an API key.")
    assert KEY not in page.evaluate("JSON.stringify(sessionStorage)")


def test_a_question_waits_for_the_key(locked) -> None:
    page = locked.page
    page.locator("#key").fill(KEY)
    page.locator("#key").press("Enter")
    expect(page.locator("#model-box[data-state=ready]")).to_be_visible()
    page.evaluate("sessionStorage.setItem('lepton.key', JSON.stringify('revoked'))")
    locked.ask("hello")
    expect(locked.problem).to_contain_text("The server did not accept the API key.")
    page.locator("#key").fill(KEY)
    page.locator("#key").press("Enter")
    expect(locked.answer).to_have_text("abc")


def test_a_stopped_server_is_told(locked, keyed_server) -> None:
    page = locked.page
    page.locator("#key").fill(KEY)
    page.locator("#key").press("Enter")
    expect(page.locator("#model-box[data-state=ready]")).to_be_visible()
    keyed_server.stop()
    locked.ask("hello")
    expect(locked.problem).to_contain_text("Check that it is running, then try again.")
    expect(page.locator("#model-box[data-state=failed]")).to_be_visible()
    expect(locked.button("Try again")).to_be_enabled()
