"""Questions of the Debian FAQ find their sections in the other language."""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.cache import bench_directory
from bench.encoders.texts import model_folder
from lepton import LLM

_PACKAGES = {"en": "debian-faq", "zh": "debian-faq-zh-cn"}
_CHARACTERS = 4000


def measure_retrieval(model: str = "multilingual-e5-small") -> Iterator[str]:
    """A line for each direction: recall@1, recall@5 and mean reciprocal rank."""
    sections = {language: _sections(package) for language, package in _PACKAGES.items()}
    numbers = sorted(sections["en"].keys() & sections["zh"].keys())
    with LLM(model_folder(model)) as llm:
        questions, passages = {}, {}
        for language, by_number in sections.items():
            titles = [by_number[number][0] for number in numbers]
            bodies = ["\n".join(by_number[number]) for number in numbers]
            questions[language] = llm.embed(titles, prompt_name="query")
            passages[language] = llm.embed(bodies, prompt_name="passage")
    yield f"{model}: {len(numbers)} sections in both languages"
    for asked, answered in (("zh", "en"), ("en", "zh"), ("zh", "zh"), ("en", "en")):
        scores = questions[asked] @ passages[answered].T
        ranks = (scores > np.diag(scores)[:, None]).sum(1) + 1
        yield (
            f"{asked} question, {answered} section: recall@1 {np.mean(ranks == 1):.3f}, "
            f"recall@5 {np.mean(ranks <= 5):.3f}, MRR {np.mean(1 / ranks):.3f}"
        )


def _sections(package: str) -> dict[tuple[int, ...], tuple[str, str]]:
    """Title and text of each section by its number, from the package's HTML pages."""
    folder = bench_directory() / "debian-faq"
    if not list((folder / package).rglob("*.html")):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "download", package], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "--extract", archive, folder / package], check=True)
    found: dict[tuple[int, ...], tuple[str, str]] = {}
    for page in sorted((folder / package).rglob("*.html")):
        found |= dict(_sections_of(page))
    return found


def _sections_of(page: Path) -> Iterator[tuple[tuple[int, ...], tuple[str, str]]]:
    """Sections begin with a heading such as ``1.1 What is Debian?``."""
    source = page.read_text("utf-8", "replace")
    parts = re.split(r"<h[2-4][^>]*>(.*?)</h[2-4]>", source, flags=re.DOTALL)
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        heading = _plain(title)
        match = re.match(r"(\d+(?:\.\d+)+)\.?\s+(.+)", heading)
        if match:
            number = tuple(int(part) for part in match[1].split("."))
            yield number, (match[2].strip(), _plain(body)[:_CHARACTERS])


def _plain(markup: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", markup))).strip()
