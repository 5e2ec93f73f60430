"""Real texts: news articles, their headlines and their sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.corpora import bbc_news

if TYPE_CHECKING:
    from lepton.models.tokenizer.text_encoder import TextEncoder

_BESIDE_TEXT = 8
"""Tokens left to special tokens and a prompt."""
WORKLOADS = ("articles", "headlines", "sentences", "query", "documents")


@dataclass(frozen=True)
class Workload:
    """Texts to embed in one call, and how the result is told."""

    name: str
    title: str
    texts: tuple[str, ...]
    max_tokens: int
    repeats: int
    latency: bool = False
    """Whether the median time of one call is told, not texts per second."""


def workloads() -> list[Workload]:
    """What is measured, from 480 of the BBC's articles."""
    articles = list(bbc_news())[::2]
    long = [text for text in articles if len(text.split()) > 230][:16]
    longer = [text for text in articles if len(text.split()) > 450][:8]
    headlines = [text.split("\n", 1)[0].strip() for text in articles]
    sentences = [
        part
        for text in articles
        for part in re.split(r"(?<=[.!?])\s+", text.split("\n", 1)[1])
        if 6 <= len(part.split()) <= 30
    ]
    query = "how do i change the password of my account online"
    return [
        Workload("articles", "articles of 256 tokens, texts/s", tuple(long), 256, 1),
        Workload("headlines", "1,000 headlines, texts/s", tuple(headlines[:1000]), 256, 1),
        Workload(
            "sentences",
            "1,000 sentences of 8 to 40 tokens, texts/s",
            tuple(sentences[:1000]),
            256,
            1,
        ),
        Workload("query", "one query of 12 tokens, p50 ms", (query,), 256, 100, latency=True),
        Workload("documents", "documents of 512 tokens, texts/s", tuple(longer), 512, 1),
    ]


def cut_texts(workload: Workload, tokenizer: TextEncoder) -> list[str]:
    """The texts, no longer than ``max_tokens`` with a prompt: not every engine cuts them."""
    room = workload.max_tokens - _BESIDE_TEXT
    cut = []
    for text in workload.texts:
        pieces = tokenizer.pieces(text)[:room]
        cut.append(text[: pieces[-1][2]] if len(pieces) == room else text)
    return cut


def texts_file(cache: Path) -> Path:
    """Where every engine finds the texts of a run, by workload."""
    return cache / "texts.json"


def model_folder(name: str) -> Path:
    """A model of the catalogue on this machine, fetched if it is missing."""
    from lepton.models import catalogue

    return catalogue.pull(name)
