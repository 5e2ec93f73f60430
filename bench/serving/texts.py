"""Real, distinct texts to put into prompts: BBC news articles, fetched once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Protocol

from bench.corpora import bbc_news


class Tokenizer(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""


def articles() -> list[str]:
    """Distinct articles in a fixed random order."""
    texts = sorted(bbc_news())
    random.Random(0).shuffle(texts)
    return texts


def prompts(tokenizer: Tokenizer, tokens: int) -> Iterator[list[int]]:
    """Token ids of distinct prompts of exactly so many tokens, each from articles of its own."""
    held: list[int] = []
    for article in articles():
        held += tokenizer.encode(article)
        if len(held) >= tokens:
            yield held[:tokens]
            held = []
