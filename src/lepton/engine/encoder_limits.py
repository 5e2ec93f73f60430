"""What bounds the memory of encoders' inputs: groups of texts, tokens of a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass

from lepton.errors import CapacityError, RequestError
from lepton.models.tokenizer.tokenizer import CHARACTERS_PER_TOKEN

GROUP_INPUTS = 4096
"""Inputs that are tokenized and sorted by length together, at most."""
GROUP_CHARACTERS = 1_000_000
"""Their characters; a group may exceed this by its last input."""


@dataclass(frozen=True)
class TokenAllowance:
    """Tokens that one request may have."""

    most: int
    """At any time."""
    room: int
    """At this moment."""
    waiting: int = 0
    """Of all requests that are waiting."""

    def check(self, tokens: int) -> None:
        """Raise RequestError for what can never be computed at once, CapacityError for now."""
        if tokens > self.most:
            raise RequestError(
                f"this request has {tokens:,} tokens, prompts and repeated queries included; the "
                f"limit is {self.most:,}: divide it into several requests",
                code="too_many_tokens",
            )
        if tokens > self.room:
            raise CapacityError(
                f"{self.waiting:,} tokens are waiting already, and this request has {tokens:,}; "
                "try again later"
            )

    def check_characters(self, characters: int) -> None:
        """Raise RequestError for a text that is too long even to count its tokens."""
        limit = self.most * CHARACTERS_PER_TOKEN
        if characters > limit:
            raise RequestError(
                f"this request has {characters:,} characters, repeated queries included; the "
                f"limit is {limit:,}: divide it into several requests",
                code="too_many_tokens",
            )


def characters_of(given: object) -> int:
    """Characters of a text, or token ids of a list; 0 for what is neither."""
    return len(given) if isinstance(given, Sized) else 0


def groups(sizes: Iterable[int]) -> Iterator[range]:
    """Places of inputs that are prepared together, given the characters of each."""
    start = end = characters = 0
    for end, size in enumerate(sizes, 1):
        characters += size
        if characters >= GROUP_CHARACTERS or end - start == GROUP_INPUTS:
            yield range(start, end)
            start, characters = end, 0
    if end > start:
        yield range(start, end)
