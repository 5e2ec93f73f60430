"""From texts to the token ids of an encoder: prompts, limits, windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import index
from typing import Literal

from lepton.engine.encoder_limits import TokenAllowance, groups
from lepton.errors import RequestError
from lepton.models.encoder_loader import EncoderModel
from lepton.models.judge import Judge
from lepton.models.stages import Embed
from lepton.models.tokenizer.text_encoder import check_text

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
class InputNames:
    """What messages call the inputs: ``numbers[place]``, or their own places, after ``noun``."""

    noun: str = "input"
    numbers: Sequence[int] | None = None

    def __getitem__(self, place: int) -> str:
        return f"{self.noun} {place if self.numbers is None else self.numbers[place]}"

    def part(self, places: range) -> InputNames:
        """Those of the inputs at consecutive places."""
        if self.numbers is None:
            return InputNames(self.noun, places)
        return InputNames(self.noun, self.numbers[places.start : places.stop])


INPUTS = InputNames()
PAIRS = InputNames("pair")


@dataclass(frozen=True)
class InputRules:
    """How the inputs of one call are prepared."""

    max_tokens: int
    """Of one window, special tokens included."""
    long_texts: LongTexts = "window"
    prompt: str = ""
    names: InputNames = INPUTS
    allowance: TokenAllowance | None = None
    """For all of them together, checked before there is any window."""


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


def windows(model: EncoderModel, inputs: Sequence[TextInput], rules: InputRules) -> list[Window]:
    """The windows of every input, in order; each input has at least one.

    Raises RequestError naming the input that is neither a text nor a list of token ids, is not
    valid Unicode, has an id outside the vocabulary, no tokens at all or, where that is asked for,
    too many; and as ``TokenAllowance.check`` for all of them.
    """
    prompt = model.tokenizer.tokens([rules.prompt])[0] if rules.prompt else []
    special = model.tokenizer.special_tokens
    if rules.allowance is not None:
        texts = sum(isinstance(given, str) for given in inputs)
        rules.allowance.check(texts * (special + len(prompt)))
    encoded = _encoded(model, inputs, rules)
    if rules.allowance is not None:
        rules.allowance.check(
            sum(
                _text_size(len(tokens), special, rules)
                if isinstance(given, str)
                else min(len(tokens), rules.max_tokens)
                for given, tokens in zip(inputs, encoded, strict=True)
            )
        )
    skipped = _skipped(model, prompt)
    found: list[Window] = []
    for owner, (given, tokens) in enumerate(zip(inputs, encoded, strict=True)):
        if isinstance(given, str):
            found += _text_windows(model, owner, tokens, rules, skipped)
        else:
            found.append(_given_window(owner, tokens, rules))
    return found


def _encoded(
    model: EncoderModel, inputs: Sequence[TextInput], rules: InputRules
) -> list[list[int]]:
    """The tokens of each text with its prompt, or the ids that were given."""
    for place, given in enumerate(inputs):
        if isinstance(given, str) and not given.isascii():
            check_text(given, rules.names[place])
    texts = [rules.prompt + given for given in inputs if isinstance(given, str)]
    tokens = iter(model.tokenizer.tokens(texts))
    return [
        next(tokens) if isinstance(given, str) else _token_ids(model, given, rules.names[place])
        for place, given in enumerate(inputs)
    ]


def _token_ids(model: EncoderModel, given: Sequence[int], name: str) -> list[int]:
    try:
        tokens = [index(token) for token in given]
    except TypeError:
        raise RequestError(
            f"{name} is neither a text nor a list of token ids, which are whole numbers",
            param="input",
        ) from None
    if not tokens:
        raise _no_tokens(name)
    if min(tokens) < 0 or max(tokens) >= model.config.vocab_size:
        raise RequestError(
            f"{name} has token ids outside 0 … {model.config.vocab_size - 1}", param="input"
        )
    return tokens


def _text_size(tokens: int, special: int, rules: InputRules) -> int:
    """Tokens of all windows of a text, ``special`` ones around each of them."""
    room = rules.max_tokens - special
    if rules.long_texts != "window":
        return min(tokens, room) + special
    return tokens + special * max(1, -(-tokens // room))


def _text_windows(
    model: EncoderModel, owner: int, tokens: list[int], rules: InputRules, skipped: int
) -> Iterator[Window]:
    room = rules.max_tokens - model.tokenizer.special_tokens
    _check_length(owner, len(tokens), room, rules)
    end = len(tokens) if rules.long_texts == "window" else room
    for start in range(0, max(1, min(end, len(tokens))), room):
        part = tokens[start : start + room]
        wrapped = model.tokenizer.wrap(part)
        if not wrapped:
            raise _no_tokens(rules.names[owner])
        if start == 0 and skipped >= len(wrapped):
            raise RequestError(
                f"{rules.names[owner]} has no tokens left beside its prompt of {skipped}, which "
                f"pooling leaves out, in a window of {rules.max_tokens}: choose a shorter prompt",
                param="prompt_name",
            )
        yield Window(
            owner,
            wrapped,
            max(1, len(part)),
            skipped=skipped if start == 0 else 0,
            continues=start > 0,
        )


def _given_window(owner: int, tokens: list[int], rules: InputRules) -> Window:
    _check_length(owner, len(tokens), rules.max_tokens, rules)
    return Window(owner, tokens[: rules.max_tokens], len(tokens))


def _check_length(place: int, tokens: int, room: int, rules: InputRules) -> None:
    if tokens > room and rules.long_texts == "error":
        raise RequestError(
            f"{rules.names[place]} has {tokens} tokens and there is room for {room}: shorten it, "
            "or ask for windows or for its beginning alone",
            param="input",
            code="context_length_exceeded",
        )


def _no_tokens(name: str) -> RequestError:
    return RequestError(f"{name} has no tokens", param="input", code="empty_input")


def _skipped(model: EncoderModel, prompt: Sequence[int]) -> int:
    """Tokens at the beginning that pooling leaves out.

    The first token stands for the whole text, so where it alone is pooled, it stays.
    """
    if not prompt or model.settings.pool_prompt or model.pooling == "cls":
        return 0
    before = model.tokenizer.special_tokens - model.tokenizer.special_tokens_after
    return before + len(prompt)


def pair_windows(
    model: EncoderModel, pairs: Sequence[tuple[str, str]], rules: InputRules
) -> list[Window]:
    """One window for each pair of texts, cut where it does not fit.

    A cross-encoder reads both texts, of which the longer gives first; a judge reads a question.
    Raises RequestError naming the text that is not valid, and as ``TokenAllowance.check``.
    """
    numbers = _numbered_texts(pairs, rules.names)
    if model.judge is not None:
        return _questions(model, model.judge, pairs, rules)
    tokens = model.tokenizer.tokens(list(numbers))
    limit, special = rules.max_tokens, model.tokenizer.special_tokens_of_pair
    if rules.allowance is not None:
        rules.allowance.check(
            sum(
                min(limit, len(tokens[numbers[first]]) + len(tokens[numbers[second]]) + special)
                for first, second in pairs
            )
        )
    with_kinds = _tells_kinds(model)
    found = []
    for owner, (first, second) in enumerate(pairs):
        pair = model.tokenizer.pair(tokens[numbers[first]], tokens[numbers[second]], limit)
        kinds = pair.kinds if with_kinds else None
        found.append(Window(owner, pair.token_ids, len(pair.token_ids), kinds=kinds))
    return found


@dataclass(frozen=True)
class DistinctTexts:
    """The texts of one side of pairs, equal ones once."""

    texts: list[str]
    rows: list[int]
    """For each pair, the place of its text."""
    names: InputNames


def distinct_texts(pairs: Sequence[tuple[str, str]], side: int) -> DistinctTexts:
    """Side 0 or 1 of pairs. Raises RequestError for what is no text."""
    names = InputNames(f"text {side + 1} of pair")
    firsts: dict[str, int] = {}
    for number, pair in enumerate(pairs):
        if not isinstance(pair[side], str):
            check_text(pair[side], names[number])
        firsts.setdefault(pair[side], number)
    places = {text: place for place, text in enumerate(firsts)}
    rows = [places[pair[side]] for pair in pairs]
    return DistinctTexts(list(firsts), rows, InputNames(names.noun, list(firsts.values())))


def _numbered_texts(pairs: Sequence[tuple[str, str]], names: InputNames) -> dict[str, int]:
    """Every text with its number among the distinct ones; raises RequestError, see above."""
    numbers: dict[str, int] = {}
    for place, pair in enumerate(pairs):
        for side, text in enumerate(pair, 1):
            if not isinstance(text, str) or text not in numbers:
                check_text(text, f"text {side} of {names[place]}")
                numbers[text] = len(numbers)
    return numbers


def _tells_kinds(model: EncoderModel) -> bool:
    """Whether the model has a vector for the second text of a pair, other than for the first."""
    tables = (stage.token_types for stage in model.stages if isinstance(stage, Embed))
    return any(table is not None and table.rows > 1 for table in tables)


def _questions(
    model: EncoderModel, judge: Judge, pairs: Sequence[tuple[str, str]], rules: InputRules
) -> list[Window]:
    sizes = [len(first) + len(second) for first, second in pairs]
    if rules.allowance is not None:
        rules.allowance.check_characters(sum(sizes))
    found: list[Window] = []
    total = 0
    for group in groups(sizes):
        questions = [judge.question(*pairs[place]) for place in group]
        for owner, tokens in zip(group, model.tokenizer.tokens(questions), strict=True):
            asked = judge.wrap(tokens, rules.max_tokens)
            total += len(asked)
            found.append(Window(owner, asked, len(asked)))
        if rules.allowance is not None:
            rules.allowance.check(total)
    return found
