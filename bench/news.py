"""The README's example on real texts: `fit` on 300 news articles, `classify` 600 others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from bench.corpora import bbc_news

_TRAIN, _TEST = 300, 600


def run_news(tell: Callable[[str], object]) -> None:
    """Print the time that both take, and how many labels are right."""
    from lepton import LargeLanguageModel

    articles = list(bbc_news().items())
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
