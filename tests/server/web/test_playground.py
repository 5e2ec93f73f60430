"""The playground in a real browser, on the real server and model."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

FRANCE = "What is the capital of France?"
STORY = "Write a long story about a lighthouse keeper and the sea."
HOSTILE = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>
[click](javascript:alert(1)) ![pixel](https://evil.example/x.png) <b>bold</b>
<style>body{display:none}</style> &lt;i&gt; <iframe src="https://evil.example"></iframe>"""
GREEDY = {"temperature": 0, "repetition_penalty": 1, "min_p": 0, "top_p": 1, "max_tokens": 24}
ENDLESS = {**GREEDY, "max_tokens": 900}


@pytest.fixture
def greedy(playground, server_url):
    """The page open, with short and repeatable answers."""
    playground.settings(**GREEDY)
    return playground.open(server_url)


@pytest.fixture
def endless(playground, server_url):
    """The page open, with answers long enough to be stopped."""
    playground.settings(**ENDLESS)
    return playground.open(server_url)


def test_streams_an_answer(playground, server_url) -> None:
    playground.settings(**GREEDY | {"max_tokens": 80})
    page = playground.open(server_url)
    page.page.evaluate(
        """() => {
          window.shown = new Set([""]);
          const note = () => window.shown.add(document.querySelector(".markdown").textContent);
          const changes = {subtree: true, childList: true, characterData: true};
          new MutationObserver(note).observe(document.getElementById("conversation"), changes);
        }"""
    )
    answer = "".join(page.ask(STORY).split())
    assert "lighthouse" in answer
    *parts, whole = ["".join(text.split()) for text in page.page.evaluate("[...window.shown]")]
    assert whole == answer
    assert any(parts)
    assert all(answer.startswith(part) for part in parts)
    assert page.ended() == "done"
    expect(page.last.locator(".stats")).to_have_text(
        re.compile(r"[\d.]+ tokens/s\s*\d+ tokens\s*first token [\d.]+ s\s*prompt \d+")
    )
    assert page.page.title() == "smollm2 · Lepton"
    expect(page.page.locator("#announcer")).to_have_text(re.compile("lighthouse"))


def test_a_second_question_carries_the_conversation(greedy) -> None:
    greedy.page.locator("#settings-toggle").click()
    greedy.page.get_by_label("System prompt").fill("You answer in one word.")
    greedy.page.get_by_label("Seed").fill("7")
    greedy.page.get_by_label("Top K").first.fill("40")
    greedy.ask(FRANCE)
    greedy.ask("And of Italy?")
    sent = greedy.requests[-1]
    assert [message["role"] for message in sent["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert sent["messages"][0]["content"] == "You answer in one word."
    assert sent["messages"][3]["content"] == "And of Italy?"
    assert (sent["seed"], sent["top_k"], sent["temperature"], sent["max_tokens"]) == (7, 40, 0, 24)
    assert "min_p" not in sent
    assert "repetition_penalty" not in sent


def test_stop_keeps_what_has_come(endless) -> None:
    endless.say(STORY)
    expect(endless.answer).to_have_text(re.compile(r"\w+ \w+"))
    endless.button("Stop").click()
    assert endless.ended() == "stopped"
    stopped = endless.answer.inner_text()
    assert stopped
    assert endless.answer.inner_text() == stopped
    expect(endless.last.locator(".stats")).to_contain_text("Stopped")
    expect(endless.button("Send")).to_be_disabled()


def test_regenerate_asks_the_same_again(greedy) -> None:
    first = greedy.ask(FRANCE)
    greedy.button("Regenerate").click()
    expect(greedy.button("Regenerate")).to_be_visible()
    assert greedy.ended() == "done"
    assert greedy.exchanges.count() == 1
    assert greedy.requests[0] == greedy.requests[1]
    assert greedy.answer.inner_text() == first


def test_editing_replaces_the_last_message(greedy) -> None:
    greedy.ask("What is the capital of Itly?")
    greedy.prompt.press("ArrowUp")
    expect(greedy.prompt).to_have_value("What is the capital of Itly?")
    expect(greedy.page.get_by_text("Editing your last message")).to_be_visible()
    greedy.prompt.press("Escape")
    expect(greedy.prompt).to_have_value("")
    greedy.prompt.press("ArrowUp")
    greedy.say(FRANCE)
    expect(greedy.answer).to_contain_text("Paris")
    assert greedy.exchanges.count() == 1
    assert len(greedy.requests[-1]["messages"]) == 1


def test_copy_takes_the_answer_and_the_code_as_written(playground, server_url) -> None:
    playground.open(server_url)
    code = "def f(x):\n    return x < 1"
    source = f"Use **this**:\n\n```python\n{code}\n```\n\nDone."
    playground.reply(source)
    playground.ask("code")
    playground.button("Copy code").click()
    assert playground.page.evaluate("navigator.clipboard.readText()") == code
    expect(playground.button("Copied")).to_be_visible()
    playground.last.locator(".assistant > footer").get_by_role("button", name="Copy").click()
    assert playground.page.evaluate("navigator.clipboard.readText()") == source


def test_hostile_text_is_shown_and_never_run(greedy) -> None:
    greedy.ask(HOSTILE)
    expect(greedy.last.locator(".bubble")).to_have_text(HOSTILE, use_inner_text=True)
    greedy.reply(HOSTILE)
    shown = greedy.ask("again")
    assert "<script>" in shown
    assert "&lt;i&gt;" in shown
    assert "https://evil.example/x.png" in shown
    made = "img, script, iframe, style, a, b, object, form, input, [onerror], [href], [style]"
    assert greedy.page.locator(f".conversation :is({made}):not(use)").count() == 0
    assert greedy.page.title() != "owned"


def test_markdown_becomes_elements(playground, server_url) -> None:
    playground.open(server_url)
    playground.reply(
        "# Title\n\nA *b* **c `d`** line\n\n1. one\n   - inner\n2. two\n\n> said\n\n"
        "| a | b |\n|---|---|\n| 1 | `2` |\n\n---\n\n```c\nint x;\n\nint y;"
    )
    playground.ask("markdown")
    answer = playground.answer
    expect(answer.locator("h3")).to_have_text("Title")
    expect(answer.locator("p em")).to_have_text("b")
    expect(answer.locator("p strong")).to_have_text("c d")
    expect(answer.locator("p strong code")).to_have_text("d")
    expect(answer.locator("ol > li")).to_have_count(2)
    expect(answer.locator("ol > li ul > li")).to_have_text("inner")
    expect(answer.locator("blockquote p")).to_have_text("said")
    expect(answer.locator("td").nth(1).locator("code")).to_have_text("2")
    expect(answer.locator("hr")).to_have_count(1)
    expect(answer.locator("pre code")).to_have_text("int x;\n\nint y;", use_inner_text=True)


def test_language_follows_the_browser_and_the_switch(playground, server_url) -> None:
    page = playground.open(server_url).page
    expect(page.locator("html")).to_have_attribute("lang", "en")
    playground.reply("One")
    playground.ask("1")
    playground.button("中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.get_by_placeholder("请输入问题")).to_be_visible()
    expect(playground.button("重新生成")).to_be_visible()
    expect(playground.last.locator(".stats")).to_contain_text("首个 token")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(playground.button("English")).to_be_visible()


@pytest.mark.parametrize("context", [{"locale": "zh-CN"}], indirect=True)
def test_a_chinese_browser_gets_chinese(playground, server_url) -> None:
    page = playground.open(server_url).page
    expect(page.get_by_role("heading", name="想问点什么？")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "zh-CN"


@pytest.mark.parametrize("context", [{"color_scheme": "dark"}], indirect=True)
def test_theme_follows_the_system_and_the_switch(playground, server_url) -> None:
    page = playground.open(server_url).page
    dark = background(page)
    button = page.locator("#theme")
    button.click()
    expect(button).to_have_accessible_name("Theme: light")
    light = background(page)
    page.reload()
    assert background(page) == light
    button.click()
    assert background(page) == dark
    assert sum(dark) < 150 < 600 < sum(light)


def background(page) -> tuple[int, ...]:
    """The red, green and blue of the page."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return tuple(int(part) for part in re.findall(r"\d+", colour)[:3])


def test_everything_is_reached_by_keyboard(endless) -> None:
    page = endless.page
    keyboard = page.keyboard
    expect(endless.prompt).to_be_focused()
    keyboard.type(STORY)
    keyboard.press("Shift+Enter")
    keyboard.type("At least ten pages.")
    keyboard.press("Enter")
    expect(endless.answer).to_have_text(re.compile(r"\w"))
    assert endless.requests[0]["messages"][0]["content"] == f"{STORY}\nAt least ten pages."
    keyboard.press("Escape")
    assert endless.ended() == "stopped"

    page.locator(".skip").focus()
    names = []
    while not names or names[-1] != "prompt":
        keyboard.press("Tab")
        name, ring = page.evaluate(
            """() => {
              const { activeElement } = document;
              const marked = activeElement.closest("#composer") ?? activeElement;
              const { outlineStyle, borderColor } = getComputedStyle(marked);
              return [activeElement.ariaLabel || activeElement.id, outlineStyle + borderColor];
            }"""
        )
        assert "solid" in ring or "rgb(13, 110, 110)" in ring, name
        names.append(name)
    known = ("New conversation", "中文", "Theme: follow the system", "Settings", "Edit", "Copy")
    assert {*known, "Regenerate", "prompt"} <= set(names)

    page.get_by_role("button", name="Settings").focus()
    keyboard.press("Enter")
    expect(page.locator("#settings")).to_be_visible()
    keyboard.press("Escape")
    expect(page.locator("#settings")).to_be_hidden()
    expect(page.get_by_role("button", name="Settings")).to_be_focused()


def test_enter_belongs_to_the_input_method_while_composing(playground, server_url) -> None:
    page = playground.open(server_url).page
    devtools = page.context.new_cdp_session(page)
    composed = {"text": "你好", "selectionStart": 2, "selectionEnd": 2}
    devtools.send("Input.imeSetComposition", composed)
    # The key press as an input method leaves it: it reaches the page but types nothing.
    devtools.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "code": "Enter"})
    devtools.send("Input.insertText", {"text": "你好"})
    expect(playground.prompt).to_have_value("你好")
    assert playground.exchanges.count() == 0
    playground.reply("好")
    page.keyboard.press("Enter")
    assert playground.ended() == "done"
    assert playground.requests[0]["messages"][0]["content"] == "你好"


def test_a_busy_server_says_when_to_come_back(greedy) -> None:
    greedy.refuse(429, {"Retry-After": "2"}, message="The waiting queue is full.")
    greedy.ask(FRANCE)
    expect(greedy.problem).to_contain_text("The server is busy. You can try again in")
    expect(greedy.problem).to_contain_text("The waiting queue is full.")
    expect(greedy.button("Try again")).to_be_disabled()
    expect(greedy.button("Try again")).to_be_enabled()
    greedy.button("Try again").click()
    expect(greedy.answer).to_contain_text("Paris")
    expect(greedy.problem).to_be_hidden()


def test_a_draining_server_and_a_lost_connection_are_told_apart(greedy) -> None:
    greedy.refuse(503, message="The server is shutting down.")
    greedy.ask(FRANCE)
    expect(greedy.problem).to_contain_text("The server is starting or shutting down.")
    greedy.reply("The capital of Fr", complete=False)
    greedy.button("Try again").click()
    expect(greedy.problem).to_contain_text("The connection was lost before the answer")
    expect(greedy.answer).to_have_text("The capital of Fr")
    greedy.page.context.set_offline(True)
    greedy.button("Try again").click()
    expect(greedy.problem).to_contain_text("The server cannot be reached.")
    expect(greedy.page.get_by_text("The server cannot be reached. Trying again…")).to_be_visible()
    greedy.page.context.set_offline(False)
    expect(greedy.page.locator("#connection")).to_be_hidden()
    greedy.button("Try again").click()
    expect(greedy.answer).to_contain_text("Paris")


def test_the_server_explains_what_it_refuses(playground, server_url) -> None:
    playground.settings(**GREEDY)
    playground.open(server_url)
    playground.ask("long " * 12_000)
    expect(playground.problem).to_contain_text("longer than the model can read")
    assert "Paris" in playground.ask(FRANCE)
    assert len(playground.requests[-1]["messages"]) == 1


def test_new_conversation_forgets_and_reload_does_not(greedy) -> None:
    answer = greedy.ask(FRANCE)
    greedy.page.reload()
    expect(greedy.answer).to_have_text(answer, use_inner_text=True)
    greedy.button("New conversation").click()
    expect(greedy.exchanges).to_have_count(0)
    expect(greedy.page.get_by_role("heading", name="What would you like to ask?")).to_be_visible()
    greedy.page.reload()
    expect(greedy.exchanges).to_have_count(0)


@pytest.mark.parametrize("context", [{"viewport": {"width": 700, "height": 420}}], indirect=True)
def test_a_little_scrolling_up_is_enough(endless) -> None:
    page = endless.page
    endless.say(STORY)
    page.wait_for_function("() => document.getElementById('scroller').scrollTop > 60")
    page.locator("#scroller").hover()
    page.mouse.wheel(0, -30)
    expect(endless.button("Go to the latest message")).to_be_visible()
    page.mouse.wheel(0, 100_000)
    expect(endless.button("Go to the latest message")).to_be_hidden()


@pytest.mark.parametrize("context", [{"viewport": {"width": 700, "height": 420}}], indirect=True)
def test_scrolling_up_is_left_alone(endless) -> None:
    page = endless.page
    endless.say(STORY)
    page.wait_for_function("() => document.getElementById('scroller').scrollTop > 60")
    page.locator("#scroller").hover()
    # A scroll that meets the page's own is broken off where it is: a reader turns the wheel again.
    while page.evaluate("document.getElementById('scroller').scrollTop") > 0:
        page.mouse.wheel(0, -2000)
        page.wait_for_timeout(50)
    expect(endless.button("Go to the latest message")).to_be_visible()
    height = page.evaluate("document.getElementById('scroller').scrollHeight")
    page.wait_for_function(
        "(height) => document.getElementById('scroller').scrollHeight > height", arg=height
    )
    assert page.evaluate("document.getElementById('scroller').scrollTop") == 0
    endless.button("Go to the latest message").click()
    expect(endless.button("Go to the latest message")).to_be_hidden()
    endless.button("Stop").click()


@pytest.mark.parametrize(
    "context", [{"viewport": {"width": 360, "height": 740}, "has_touch": True}], indirect=True
)
def test_a_phone_needs_no_sideways_scrolling(playground, server_url) -> None:
    page = playground.open(server_url).page
    playground.reply(f"`{'x' * 300}`\n\n```\n{'y' * 300}\n```\n\n| {'z' * 200} | b |\n|--|--|")
    playground.ask("w" * 300)
    for part in ("html", "#scroller", ".dock"):
        element = page.locator(part)
        assert element.evaluate("(element) => element.scrollWidth - element.clientWidth") <= 0, part
    playground.button("Settings").click()
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Settings")).to_be_hidden()


def test_settings_are_kept_in_bounds_and_remembered(playground, server_url) -> None:
    page = playground.open(server_url).page
    playground.button("Settings").click()
    box = page.get_by_role("spinbutton", name="Temperature")
    box.fill("9")
    box.blur()
    expect(box).to_have_value("2")
    page.get_by_role("slider", name="Min P").fill("0.2")
    page.reload()
    playground.button("Settings").click()
    expect(box).to_have_value("2")
    expect(page.get_by_role("spinbutton", name="Min P")).to_have_value("0.2")
    playground.button("Reset to defaults").click()
    expect(box).to_have_value("0.7")


def test_the_content_security_policy_holds(context, server_url) -> None:
    page = context.new_page()
    response = page.goto(server_url)
    policy = response.header_value("content-security-policy")
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    refused = page.evaluate(
        """() => new Promise((resolve) => {
          const refused = (event) => resolve(event.effectiveDirective);
          document.addEventListener("securitypolicyviolation", refused);
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
        })"""
    )
    assert refused.startswith("script-src")
    assert page.evaluate("window.ran") is None
