from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from lepton import __version__
from lepton.errors import EngineError, LeptonError, ModelFormatError, RequestError
from lepton.models import catalogue

Run = Callable[..., Result]
Launch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command(run: Run, flag: str) -> None:
    result = run(flag)
    assert result.exit_code == 0
    for command in ("serve", "chat", "run", "models", "doctor", "keys"):
        assert command in result.stdout


@pytest.mark.parametrize("command", ["serve", "chat", "run", "models", "models pull", "doctor"])
def test_every_command_has_help(run: Run, command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"lepton {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["run"], ["serve", "--port", "70000"], ["models", "pull"]]
)
def test_usage_errors_exit_with_two(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("the prompt is too long"), 2),
        (EngineError("a step failed"), 1),
        (ModelFormatError("unknown type 99", file="/m.gguf", tensor="output.weight", offset=7), 1),
    ],
)
def test_errors_become_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: LeptonError, code: int
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(catalogue, "entries", fail)
    result = run("models", "list")
    assert result.exit_code == code
    assert result.stderr == f"Error: {error}\n"


def test_an_unexpected_error_is_told_without_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(catalogue, "entries", fail)
    result = run("models", "list")
    assert result.exit_code == 1
    assert "unexpected ZeroDivisionError: division by zero" in result.stderr
    assert "LEPTON_DEBUG=1" in result.stderr
    assert "Traceback" not in result.stderr


def test_control_characters_of_an_error_do_not_reach_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise EngineError("bad \x1b[31m name \x07[/red]")

    monkeypatch.setattr(catalogue, "entries", fail)
    assert run("models", "list").stderr == "Error: bad [31m name [/red]\n"


def test_a_missing_model_is_one_line_and_exit_code_two(launch: Launch, home: Path) -> None:
    result = launch("run", "smollm2-135m-instruct", "-p", "Hello")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "Error: smollm2-135m-instruct is not on this machine yet; fetch it with: "
        "lepton models pull smollm2-135m-instruct\n"
    )


def test_debugging_shows_the_traceback(launch: Launch, home: Path) -> None:
    result = launch("run", "nowhere", "-p", "Hello", LEPTON_DEBUG="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_messages_can_be_chinese(launch: Launch, home: Path) -> None:
    assert "与模型对话" in launch("chat", "--help", LEPTON_LANG="zh").stdout
    assert "错误：" in launch("models", "verify", "nowhere", LEPTON_LANG="zh").stderr


def test_a_closed_pipe_is_quiet() -> None:
    # The reader is gone before the first byte is written.
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "lepton", "models", "list", "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert process.stderr == ""


@pytest.mark.parametrize("package", ["typer", "rich", "httpx"])
def test_a_missing_extra_is_named(package: str) -> None:
    script = (
        f"import sys; sys.modules[{package!r}] = None; from lepton.cli import main; "
        "sys.argv = ['lepton', 'doctor']; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stderr.strip() == (
        f"lepton: the command line needs {package}: pip install 'lepton-engine[serve]'"
    )


def test_help_needs_neither_torch_nor_the_web_framework() -> None:
    script = (
        "import sys; import lepton.cli.app; "
        "print(sorted({'torch', 'fastapi', 'transformers', 'sqlalchemy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"
