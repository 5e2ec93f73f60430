from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import lepton.cli
from lepton.cli.app import app
from lepton.cli.chinese import CHINESE
from lepton.cli.language import chinese, say, translate

SOURCES = sorted(Path(lepton.cli.__file__).parent.glob("*.py"))
VARIABLES = ("LEPTON_LANG", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture
def _no_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def _said() -> Iterator[str]:
    """Every constant text given to ``say``."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say"
            if called and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def _helps(command: Any) -> Iterator[str]:
    if command.help:
        yield " ".join(command.help.split())
    for parameter in command.params:
        # Typer writes the help of its completion options itself.
        if getattr(parameter, "help", None) and "completion" not in parameter.name:
            yield parameter.help
    for child in getattr(command, "commands", {}).values():
        yield from _helps(child)


def _fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_message_and_help_text_has_its_chinese() -> None:
    needed = {*_said(), *_helps(typer.main.get_command(app))}
    assert len(needed) > 60
    assert sorted(needed - set(CHINESE)) == []


def test_translations_are_chinese_and_fill_in_the_same_values() -> None:
    for english, translated in CHINESE.items():
        assert _fields(english) == _fields(translated), english
        assert re.search(r"[\u4e00-\u9fff]", translated), english


@pytest.mark.usefixtures("_no_locale")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LEPTON_LANG": "zh"}, True),
        ({"LANG": "zh_CN.UTF-8", "LEPTON_LANG": "en"}, False),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, False),
    ],
)
def test_language_of_the_user(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert chinese() is expected


def test_unknown_text_stays_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_LANG", "zh")
    assert say("{thing} has no translation", thing="this") == "this has no translation"


def test_help_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_LANG", "zh")
    command: Any = typer.main.get_command(app)
    translate(command)
    assert command.commands["chat"].help == CHINESE["Chat with a model in the terminal."]
