"""``lepton chat``: a conversation in the terminal."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from lepton import config
from lepton.cli import options
from lepton.cli.console import fail, harmless, notices, output
from lepton.cli.conversation import Fragment, LocalResponder, Message, RemoteResponder, Responder
from lepton.cli.language import say
from lepton.cli.markdown import MarkdownStream, Piece
from lepton.cli.models import pull_if_missing
from lepton.cli.wrapping import WordWrap
from lepton.engine import LLM, EngineConfig, SamplingParams
from lepton.errors import LeptonError

HELP = (
    ("/help", "this list"),
    ("/system TEXT", "set the system prompt and begin anew; without TEXT: remove it"),
    ("/clear", "forget the conversation"),
    ("/regenerate", "answer the last question again"),
    ("/save FILE", "write the conversation as JSON"),
    ("/exit", "leave (also Ctrl-D)"),
)


def chat(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of the catalogue, or path of a model.")
    ] = config.DEFAULT_MODEL,
    system: options.System = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Talk to a running server instead of loading a model."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="LEPTON_API_KEY", metavar="KEY", help="Key for --url."),
    ] = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = 0.7,
    top_k: options.TopK = 0,
    top_p: options.TopP = 0.95,
    min_p: options.MinP = 0.0,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: options.Seed = None,
    stop: options.Stop = None,
    context_length: options.ContextLength = None,
    threads: options.Threads = 0,
    precision: options.Precision = EngineConfig.precision,
    kv_dtype: options.KvDtype = EngineConfig.kv_dtype,
    quantize: options.Quantize = EngineConfig.quantize,
) -> None:
    """Chat with a model in the terminal."""
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
    )
    if url is not None:
        chosen = None if model == config.DEFAULT_MODEL else model
        responder: Responder = RemoteResponder(url, chosen, api_key)
    else:
        engine_config = EngineConfig(
            context_length=context_length,
            threads=threads,
            precision=precision,
            kv_dtype=kv_dtype,
            quantize=quantize,
            max_sequences=1,
        )
        responder = LocalResponder(_load(model, engine_config))
    try:
        session = ChatSession(responder, params, output, system=system)
        session.greet()
        for line in _lines():
            if not session.handle(line):
                break
    finally:
        responder.close()


@dataclass
class ChatSession:
    """The conversation so far, and what each line typed does to it."""

    responder: Responder
    params: SamplingParams
    console: Console
    system: str | None = None
    messages: list[Message] = field(default_factory=list)
    """Without the system prompt."""
    clock: Callable[[], float] = time.perf_counter

    def greet(self) -> None:
        """Say which model it is and how to get help."""
        self.console.print(f"[bold]{escape(self.responder.name)}[/]", highlight=False)
        hint = say("/help lists the commands; Alt-Enter starts a new line; Ctrl-C stops an answer.")
        self.console.print(f"[dim]{escape(hint)}[/]", highlight=False)

    def handle(self, line: str) -> bool:
        """Act on what was typed; False ends the session."""
        text = line.strip()
        if not text:
            return True
        if not text.startswith("/"):
            self._ask(text)
            return True
        command, _, argument = text.partition(" ")
        return self._command(command, argument.strip())

    def _command(self, command: str, argument: str) -> bool:
        match command:
            case "/exit" | "/quit":
                return False
            case "/help":
                for usage, meaning in HELP:
                    self.console.print(f"[bold]{usage:<14}[/] {say(meaning)}", highlight=False)
            case "/clear":
                self.messages.clear()
                self._note(say("The conversation is forgotten."))
            case "/system":
                self.system = argument or None
                self.messages.clear()
                self._note(say("New system prompt, new conversation."))
            case "/regenerate":
                self._regenerate()
            case "/save":
                self._save(argument)
            case _:
                self._note(say("{command} is no command; /help lists them.", command=command))
        return True

    def _ask(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})
        if not self._answer(self.params):
            self.messages.pop()

    def _regenerate(self) -> None:
        if not self.messages:
            self._note(say("There is nothing to answer again."))
            return
        previous = self.messages.pop()
        # A fixed seed would give the same answer once more.
        if not self._answer(replace(self.params, seed=None)):
            self.messages.append(previous)

    def _answer(self, params: SamplingParams) -> bool:
        """Print an answer and add it to the conversation; False when there was none."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        fragments = self.responder.answer([*system, *self.messages], params)
        started = self.clock()
        texts: list[str] = []
        tokens = 0
        try:
            with closing(fragments), _stop_key() as stopped:
                for fragment in self._show(fragments):
                    texts.append(fragment.text)
                    tokens += fragment.tokens
                    if stopped():
                        break
                if stopped():
                    self._note(say("Stopped."))
        except LeptonError as error:
            fail(str(error))
            return False
        if tokens:
            self._speed(tokens, self.clock() - started)
        self.messages.append({"role": "assistant", "content": "".join(texts)})
        return True

    def _show(self, fragments: Iterator[Fragment]) -> Iterator[Fragment]:
        markdown, wrap = MarkdownStream(), WordWrap(self.console.width)

        def write(pieces: Iterable[Piece]) -> None:
            for text, style in pieces:
                self.console.print(Text(wrap.add(text), style), end="", soft_wrap=True)

        try:
            for fragment in fragments:
                write(markdown.add(harmless(fragment.text)))
                yield fragment
        finally:
            write(markdown.finish())
            self.console.print()

    def _speed(self, tokens: int, seconds: float) -> None:
        rate = tokens / seconds if seconds > 0 else 0.0
        self._note(say("{tokens} tokens, {rate:.1f} tokens/s", tokens=tokens, rate=rate))

    def _save(self, argument: str) -> None:
        if not argument:
            self._note(say("Name a file: /save FILE"))
            return
        path = Path(argument).expanduser()
        system = [{"role": "system", "content": self.system}] if self.system else []
        document = {"model": self.responder.name, "messages": [*system, *self.messages]}
        try:
            path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", "utf-8")
        except OSError as error:
            fail(say("{file} cannot be written: {reason}", file=path, reason=error.strerror))
        else:
            self._note(say("Saved to {file}.", file=path))

    def _note(self, message: str) -> None:
        self.console.print(f"[dim]{escape(message)}[/]", soft_wrap=True, highlight=False)


@contextmanager
def _stop_key() -> Iterator[Callable[[], bool]]:
    """Tells whether Ctrl-C was pressed; the engine finishes its step. A second press interrupts."""
    pressed = False

    def press(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    previous = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def _load(model: str, engine_config: EngineConfig) -> LLM:
    if model == config.DEFAULT_MODEL:
        pull_if_missing(model)
    with notices.status(say("Loading {model}", model=model)):
        return LLM(model, **vars(engine_config))


def _lines() -> Iterator[str]:
    """Lines typed at a prompt with history, or those of standard input when it is no terminal."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    from lepton.cli.prompt import prompts

    yield from prompts([usage.split()[0] for usage, _ in HELP])
