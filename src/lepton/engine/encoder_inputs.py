"""From texts to the token ids of an encoder: prompts, limits, windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from lepton.errors import RequestError
from lepton.models.encoder_loader import EncoderModel

LongTexts = Literal["window", "truncate", "error"]
"""What becomes of a text beyond the limit: the mean of windows that follow one another, weighted by
their tokens; its beginning alone; or a RequestError."""

TextInput = str | Sequence[int]
"""A text, or token ids used as they are, special tokens included."""


@dataclass(frozen=True)
class Window:
    """One run of tokens for the executor, part of input ``owner``."""

    owner: int
    token_ids: Sequence[int]
    weight: int
    """Tokens of the text in it."""
    kinds: Sequence[int] | None = None
    skipped: int = 0
    """Tokens at its beginning that pooling leaves out."""
    continues: bool = False
    """Whether it is not the first of its input."""


@dataclass(frozen=True)
class InputRules:
    """How the inputs of one call are prepared."""

    max_tokens: int
    """Of one window, special tokens included."""
    long_texts: LongTexts = "window"
    prompt: str = ""


def prompt_of(model: EncoderModel, name: str | None, text: str | None = None) -> str:
    """What is put before texts: ``text`` itself, or one of the model's prompts by its name.

    Without either it is the model's default prompt; the name "" stands for none.
    """
    if text is not None and name is not None:
        raise RequestError("give a prompt or the name of one, not both", param="prompt_name")
    if text is not None:
        return text
    prompts = model.settings.prompts
    name = name if name is not None else model.settings.default_prompt
    if not name:
        return ""
    if name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise RequestError(
            f"{model.name} has no prompt {name!r}; it has {known}", param="prompt_name"
        )
    return prompts[name]


def windows(
    model: EncoderModel, inputs: Sequence[TextInput], rules: InputRules
) -> Iterator[Window]:
    """The windows of every input, in order; each input has at least one.

    Raises RequestError naming the input that is not valid Unicode, has an id outside the
    vocabulary, no tokens at all or, where that is asked for, too many.
    """
    texts = [rules.prompt + text for text in inputs if isinstance(text, str)]
    encoded = iter(model.tokenizer.tokens(texts))
    skipped = _prompt_tokens(model, rules.prompt)
    for number, given in enumerate(inputs):
        if isinstance(given, str):
            yield from _text_windows(model, number, next(encoded), rules, skipped)
        else:
            yield _given_window(model, number, given, rules)


def _text_windows(
    model: EncoderModel, number: int, tokens: list[int], rules: InputRules, skipped: int
) -> Iterator[Window]:
    room = rules.max_tokens - model.tokenizer.special_tokens
    _check_length(number, len(tokens), room, rules)
    end = len(tokens) if rules.long_texts == "window" else room
    for start in range(0, max(1, min(end, len(tokens))), room):
        part = tokens[start : start + room]
        wrapped = model.tokenizer.wrap(part)
        if not wrapped:
            raise RequestError(f"input {number} has no tokens", param="input", code="empty_input")
        yield Window(
            number,
            wrapped,
            max(1, len(part)),
            skipped=skipped if start == 0 else 0,
            continues=start > 0,
        )


def _given_window(
    model: EncoderModel, number: int, given: Sequence[int], rules: InputRules
) -> Window:
    tokens = [int(token) for token in given]
    if not tokens:
        raise RequestError(f"input {number} has no tokens", param="input", code="empty_input")
    if min(tokens) < 0 or max(tokens) >= model.config.vocab_size:
        raise RequestError(
            f"input {number} has token ids outside 0 … {model.config.vocab_size - 1}", param="input"
        )
    _check_length(number, len(tokens), rules.max_tokens, rules)
    return Window(number, tokens[: rules.max_tokens], len(tokens))


def _check_length(number: int, tokens: int, room: int, rules: InputRules) -> None:
    if tokens > room and rules.long_texts == "error":
        raise RequestError(
            f"input {number} has {tokens} tokens and there is room for {room}: shorten it, or ask "
            "for windows or for its beginning alone",
            param="input",
            code="context_length_exceeded",
        )


def _prompt_tokens(model: EncoderModel, prompt: str) -> int:
    """Tokens at the beginning that pooling leaves out."""
    if not prompt or model.settings.pool_prompt:
        return 0
    before = len(model.tokenizer.wrap([])) - model.tokenizer.special_tokens_after
    return before + len(model.tokenizer.tokens([prompt])[0])


def pair_windows(
    model: EncoderModel, pairs: Sequence[tuple[str, str]], max_tokens: int
) -> list[Window]:
    """One window for each pair of texts, cut where it does not fit.

    A cross-encoder reads both texts, of which the longer gives first; a judge reads a question.
    """
    if model.judge is not None:
        questions = [model.judge.question(*pair) for pair in pairs]
        asked = [
            model.judge.wrap(tokens, max_tokens) for tokens in model.tokenizer.tokens(questions)
        ]
        return [Window(number, tokens, len(tokens)) for number, tokens in enumerate(asked)]
    distinct = {
        text: number for number, text in enumerate(dict.fromkeys(chain.from_iterable(pairs)))
    }
    tokens = model.tokenizer.tokens(list(distinct))
    found = []
    for number, (first, second) in enumerate(pairs):
        pair = model.tokenizer.pair(tokens[distinct[first]], tokens[distinct[second]], max_tokens)
        found.append(Window(number, pair.token_ids, len(pair.token_ids), kinds=pair.kinds))
    return found
