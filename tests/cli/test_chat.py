from __future__ import annotations

import io
import json
import signal
import subprocess
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from lepton.cli.chat import ChatSession
from lepton.cli.conversation import Fragment, Message
from lepton.engine import SamplingParams
from lepton.errors import CapacityError

Launch = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass
class Echo:
    """Answers with the number of messages it was given; can be told to fail or be interrupted."""

    name: str = "echo"
    asked: list[list[Message]] = field(default_factory=list)
    params: list[SamplingParams] = field(default_factory=list)
    fail: bool = False
    interrupt: bool = False
    closed: int = 0

    def answer(
        self, messages: Sequence[Message], params: SamplingParams
    ) -> Generator[Fragment, None, None]:
        self.asked.append(list(messages))
        self.params.append(params)
        if self.fail:
            raise CapacityError("the queue is full")
        try:
            yield Fragment("answer ", 1)
            if self.interrupt:
                signal.raise_signal(signal.SIGINT)
            yield Fragment(f"**{len(messages)}**", 1)
            yield Fragment("\x1b[2J!", 1, "stop")
        finally:
            self.closed += 1

    def close(self) -> None:
        pass


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def session(echo: Echo, screen: io.StringIO) -> ChatSession:
    ticks = iter(range(100))
    return ChatSession(
        echo,
        SamplingParams(seed=1),
        Console(file=screen, width=120),
        clock=lambda: float(next(ticks)),
    )


def test_answers_are_shown_and_remembered(
    session: ChatSession, echo: Echo, screen: io.StringIO
) -> None:
    assert session.handle("first\n")
    assert session.handle("second\n")
    assert screen.getvalue() == (
        "answer 1[2J!\n3 tokens, 3.0 tokens/s\nanswer 3[2J!\n3 tokens, 3.0 tokens/s\n"
    )
    assert [message["role"] for message in echo.asked[1]] == ["user", "assistant", "user"]
    assert echo.asked[1][1]["content"] == "answer **1**\x1b[2J!"
    assert echo.closed == 2


def test_empty_lines_ask_nothing(session: ChatSession, echo: Echo) -> None:
    assert session.handle("  \n")
    assert echo.asked == []


def test_exit_ends(session: ChatSession) -> None:
    assert not session.handle("/exit")


def test_system_prompt_begins_anew(session: ChatSession, echo: Echo) -> None:
    session.handle("first")
    session.handle("/system Be brief.")
    session.handle("second")
    assert echo.asked[-1] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "second"},
    ]
    session.handle("/system")
    session.handle("third")
    assert echo.asked[-1] == [{"role": "user", "content": "third"}]


def test_clear_forgets(session: ChatSession, echo: Echo) -> None:
    session.handle("first")
    session.handle("/clear")
    session.handle("second")
    assert len(echo.asked[-1]) == 1


def test_regenerate_asks_the_same_without_the_seed(session: ChatSession, echo: Echo) -> None:
    session.handle("first")
    session.handle("/regenerate")
    assert echo.asked[0] == echo.asked[1]
    assert [params.seed for params in echo.params] == [1, None]
    assert [message["role"] for message in session.messages] == ["user", "assistant"]


def test_regenerate_needs_a_question(session: ChatSession, echo: Echo, screen: io.StringIO) -> None:
    session.handle("/regenerate")
    assert echo.asked == []
    assert "nothing to answer" in screen.getvalue()


def test_a_failure_keeps_the_conversation(
    session: ChatSession, echo: Echo, capsys: pytest.CaptureFixture[str]
) -> None:
    session.handle("first")
    before = list(session.messages)
    echo.fail = True
    session.handle("second")
    assert session.messages == before
    session.handle("/regenerate")
    assert session.messages == before
    assert "the queue is full" in capsys.readouterr().err


def test_ctrl_c_stops_the_answer_and_keeps_its_beginning(
    session: ChatSession, echo: Echo, screen: io.StringIO
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    echo.interrupt = True
    assert session.handle("first")
    assert signal.getsignal(signal.SIGINT) is handler
    assert "Stopped." in screen.getvalue()
    assert session.messages[-1] == {"role": "assistant", "content": "answer **1**"}
    assert echo.closed == 1


def test_save_writes_the_conversation(session: ChatSession, tmp_path: Path) -> None:
    session.handle("/system 简短")
    session.handle("你好")
    path = tmp_path / "chat.json"
    session.handle(f"/save {path}")
    saved = json.loads(path.read_text())
    assert saved["model"] == "echo"
    assert [message["role"] for message in saved["messages"]] == ["system", "user", "assistant"]
    assert "你好" in path.read_text()


def test_save_tells_what_is_wrong(
    session: ChatSession,
    screen: io.StringIO,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert session.handle("/save")
    assert "/save FILE" in screen.getvalue()
    assert session.handle(f"/save {tmp_path}/absent/chat.json")
    assert "cannot be written" in capsys.readouterr().err


def test_help_and_unknown_commands(session: ChatSession, screen: io.StringIO) -> None:
    session.handle("/help")
    session.handle("/bogus")
    for command in ("/system", "/clear", "/regenerate", "/save", "/exit", "/bogus is no command"):
        assert command in screen.getvalue()


def test_chat_through_a_pipe(launch: Launch, smollm2_path: Path) -> None:
    result = launch(
        *("chat", str(smollm2_path), "--temperature", "0", "--max-tokens", "16"),
        stdin="What is the capital of France?\n",
    )
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout
    assert "tokens/s" in result.stdout


def test_chat_needs_a_chat_model(launch: Launch, gemma3_path: Path) -> None:
    result = launch("chat", str(gemma3_path))
    assert result.returncode == 2
    assert "no chat template" in result.stderr.splitlines()[-1]
