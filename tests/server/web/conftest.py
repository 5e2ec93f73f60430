"""A headless browser on the playground; its page must stay free of errors and of strangers."""

from __future__ import annotations

import json
import re
import shutil
from collections import deque
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Route,
    expect,
    sync_playwright,
)

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ENDED = ":is([data-status=done], [data-status=stopped], [data-status=failed])"


TIMEOUT_MS = 60_000
expect.set_options(timeout=TIMEOUT_MS)


class Playground:
    """The page under test, with the things a person does on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.prompt = page.locator("#prompt")
        self.exchanges = page.locator(".exchange")
        self.last = page.locator(".exchange").last
        self.answer = self.last.locator(".markdown")
        self.problem = self.last.locator(".problem")
        self.requests: list[dict] = []
        self.replies: deque[dict] = deque()
        # Before the page opens: what begins to be caught later may miss the next request.
        page.route("**/v1/chat/completions", self._answer)

    def _answer(self, route: Route) -> None:
        self.requests.append(route.request.post_data_json)
        if self.replies:
            route.fulfill(**self.replies.popleft())
        else:
            route.continue_()

    def open(self, url: str) -> Playground:
        self.page.goto(url)
        self.page.wait_for_selector("#model-box[data-state=ready]")
        return self

    def settings(self, **values: object) -> None:
        """Remember these settings before the page opens."""
        value = json.dumps(json.dumps(values))
        self.page.add_init_script(
            f"localStorage.getItem('lepton.settings') ?? "
            f"localStorage.setItem('lepton.settings', {value})"
        )

    def say(self, text: str) -> None:
        self.prompt.fill(text)
        self.prompt.press("Enter")

    def ask(self, text: str) -> str:
        """Send a message and wait for the whole answer."""
        count = self.exchanges.count()
        self.say(text)
        self.ended(count)
        return self.answer.inner_text()

    def ended(self, index: int = 0) -> str:
        """Wait until an exchange has ended; return how."""
        exchange = self.exchanges.nth(index)
        self.page.locator(f".exchange{ENDED}").and_(exchange).wait_for()
        return exchange.get_attribute("data-status") or ""

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def reply(self, answer: str, *, complete: bool = True) -> None:
        """Let the next chat request be answered with this text, as the server would stream it."""
        pieces = re.findall(r"[\s\S]{1,7}", answer)
        chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        if complete:
            events.append("data: [DONE]\n\n")
        self.replies.append(
            {"status": 200, "content_type": "text/event-stream", "body": "".join(events)}
        )

    def refuse(self, status: int, headers: dict[str, str] | None = None, **error: str) -> None:
        """Let the next chat request fail."""
        self.replies.append({"status": status, "headers": headers or {}, "json": {"error": error}})


@pytest.fixture(scope="session")
def server_url(server) -> str:
    """Where the page of the real server is."""
    return f"{server.url}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as the system installed it."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A fresh profile; `@pytest.mark.parametrize("context", [{...}], indirect=True)` shapes it."""
    options = {"locale": "en-US", "viewport": {"width": 1280, "height": 800}}
    context = browser.new_context(**(options | getattr(request, "param", {})))
    context.set_default_timeout(TIMEOUT_MS)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


@pytest.fixture
def playground(context: BrowserContext, server_url: str) -> Iterator[Playground]:
    """The page, not yet open. Afterwards: nothing went wrong in it and nothing left the server."""
    page = context.new_page()
    troubles: list[str] = []
    hosts: set[str] = set()

    def note(message: ConsoleMessage) -> None:
        # Chromium itself writes a line for every request that fails.
        if not message.text.startswith("Failed to load resource"):
            troubles.append(message.text)

    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", note)
    page.on("request", lambda sent: hosts.add(urlsplit(sent.url).netloc))
    opened = Playground(page)
    yield opened
    assert not opened.replies
    assert troubles == []
    assert hosts <= {urlsplit(server_url).netloc}
