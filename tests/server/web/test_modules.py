"""The page's modules one by one, inside the browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import lepton

WEB = Path(lepton.__file__).parent / "server" / "web"


@pytest.fixture(scope="module")
def run(browser, server_url):
    """Runs `statements` in the page, with a module's exports as `m` and with `argument`."""
    page = browser.new_page()
    page.goto(server_url)

    def call(module: str, statements: str, argument: object = None) -> object:
        source = f"async (argument) => {{ const m = await import('/web/{module}'); {statements} }}"
        return page.evaluate(source, argument)

    yield call
    page.close()


def test_events_survive_any_cut(run) -> None:
    stream = (
        ': hello\r\ndata: {"a": "你"}\r\n\r\ndata: 1\ndata: 2\n\nevent: x\ndata:tail\r\rdata: lost'
    )
    read = """
      const bytes = new TextEncoder().encode(argument.stream);
      const results = new Set();
      for (let cut = 0; cut <= bytes.length; cut += 1) {
        const source = new ReadableStream({ start(controller) {
          controller.enqueue(bytes.slice(0, cut));
          controller.enqueue(bytes.slice(cut));
          controller.close();
        } });
        const seen = [];
        for await (const data of m.events(source)) seen.push(data);
        results.add(JSON.stringify(seen));
      }
      return [...results];"""
    assert run("sse.js", read, {"stream": stream}) == ['["{\\"a\\": \\"你\\"}","1\\n2","tail"]']


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("2 * 3 * 4", [{"kind": "text", "text": "2 * 3 * 4"}]),
        ("snake_case_name", [{"kind": "text", "text": "snake_case_name"}]),
        (r"\*not\*", [{"kind": "text", "text": "*not*"}]),
        ("``a ` b``", [{"kind": "code", "text": "a ` b"}]),
        ("**重点**。", [
            {"kind": "bold", "pieces": [{"kind": "text", "text": "重点"}]},
            {"kind": "text", "text": "。"},
        ]),
        ("**open", [{"kind": "text", "text": "**open"}]),
    ],
)  # fmt: skip
def test_inline(run, text: str, pieces: list) -> None:
    assert run("markdown.js", "return m.parseInline(argument)", text) == pieces


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a **b", "a **b**"),
        ("a **", "a "),
        ("a **b*", "a **b**"),
        ("是**重点**", "是**重点**"),
        ("see `x", "see `x`"),
        ("2 * 3", "2 * 3"),
    ],
)
def test_a_growing_text_shows_no_stray_marks(run, text: str, shown: str) -> None:
    assert run("markdown.js", "return m.closeOpen(argument)", text) == shown


def test_every_source_line_is_kept(run) -> None:
    source = "# a\n\n- b\n\n  c\n- d\n\n```\n# code\n- x\n```\ntail\n> q\n> > r\n\n1) e\n***\nz"
    blocks = run("markdown.js", "return m.parseBlocks(argument)", source)
    kinds = ["heading", "list", "code", "paragraph", "quote", "list", "rule", "paragraph"]
    assert [block["kind"] for block in blocks] == kinds
    kept = "\n".join(block["source"] for block in blocks).split("\n")
    assert [line for line in kept if line] == [line for line in source.split("\n") if line]


@pytest.mark.parametrize(
    "text",
    ["> " * 5000, "- " * 5000, "*" * 20_000, "`a" * 9000, "_a " * 6000, "|-" * 9000 + "\n|-"],
)
def test_hostile_markdown_is_read_quickly(run, text: str) -> None:
    script = """
      const start = performance.now();
      for (const block of m.parseBlocks(argument)) m.parseInline(block.text ?? "");
      return performance.now() - start < 5000;"""
    assert run("markdown.js", script, text)


def test_both_languages_have_every_string(run) -> None:
    strings = run("strings.js", "return m.strings")
    english, chinese = strings["en"], strings["zh"]
    assert english.keys() == chinese.keys()
    for key, words in english.items():
        assert fields(words) == fields(chinese[key]), key
        assert len(words) == len(chinese[key]) or isinstance(words, str), key
    page = (WEB / "index.html").read_text("utf-8")
    named = re.findall(r'data-(?:text|label|name|placeholder)="(\w+)"', page)
    assert set(named) <= english.keys()


def fields(words: object) -> list[str]:
    """The placeholders in a string."""
    return sorted(re.findall(r"\{\w+\}", json.dumps(words)))


def test_no_module_makes_markup() -> None:
    for path in WEB.glob("*.js"):
        source = path.read_text("utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source
        )


def test_the_page_names_only_its_own_files() -> None:
    page = (WEB / "index.html").read_text("utf-8")
    for name in re.findall(r'(?:src|href)="(?!#)([^"#]+)', page):
        assert (WEB.parent / name).is_file(), name
    preloaded = set(re.findall(r'rel="modulepreload" href="web/(\w+\.js)"', page))
    assert preloaded | {"early.js", "main.js"} == {path.name for path in WEB.glob("*.js")}
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", page)
