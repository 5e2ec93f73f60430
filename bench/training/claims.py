"""Which trainings stand behind each claim; every setting is here, seeds included."""

from __future__ import annotations

import subprocess
import sys
from functools import cache, partial

from bench.cache import bench_directory
from bench.corpora import SHOP, SHOP_TEST
from bench.training import data
from bench.training.trials import Trial
from lepton.data import augment, find_leaks, wanted_rows
from lepton.training import Dataset, TrainingConfig, load_dataset, make_dataset
from lepton.training.selection import hold_out

SEEDS = (0, 1, 2)
DRAWS = (0, 1, 2, 3, 4)
_ROWS_OF_A_DRAW = 8
_TEST_SHARE = 0.2
_TITLE_AND_CONTENT = TrainingConfig(
    method="head", encoder="multilingual-e5-small", max_tokens=128, fields=2
)


def bbc_full() -> list[Trial]:
    """Four fifths of the articles to learn from, the others to test on; three splits."""
    return [
        Trial("bbc-full", method, seed, TrainingConfig(method=method, seed=seed), *_parts(seed))
        for seed in SEEDS
        for method in ("linear", "head")
    ]


def bbc_few() -> list[Trial]:
    """Eight articles a label out of the half that no setting was found on."""
    return [
        Trial(
            "bbc-few",
            method,
            seed,
            TrainingConfig(method=method, seed=seed),
            partial(_draw, seed, 0),
            partial(_draw, seed, 1),
        )
        for seed in DRAWS
        for method in ("linear", "head", "auto")
    ]


def inews() -> list[Trial]:
    """Chosen on dev, told on test."""
    parts = {part: partial(data.inews, part) for part in ("train", "test", "dev")}
    configs = (TrainingConfig(method="linear"), _TITLE_AND_CONTENT)
    return [
        Trial("inews", config.method, seed, _with_seed(config, seed), *parts.values())
        for config in configs
        for seed in SEEDS
    ]


def customer() -> list[Trial]:
    """The shop's questions as generated, cleaned, and cleaned with rewritten rows."""
    return [
        Trial(
            f"customer-{kind}",
            method,
            seed,
            TrainingConfig(method=method, seed=seed, encoder="multilingual-e5-small"),
            partial(_questions, kind, seed, 0),
            _customer_test,
            partial(_questions, kind, seed, 1),
        )
        for kind in ("raw", "clean", "augmented")
        for method in ("linear", "head")
        for seed in SEEDS
    ]


CLAIMS = {"customer": customer, "bbc-full": bbc_full, "bbc-few": bbc_few, "inews": inews}


def _with_seed(config: TrainingConfig, seed: int) -> TrainingConfig:
    return TrainingConfig.from_json(config.as_json() | {"seed": seed})


def _parts(seed: int) -> tuple[partial[Dataset], partial[Dataset]]:
    return partial(_split, seed, 0), partial(_split, seed, 1)


@cache
def _bbc() -> Dataset:
    return data.bbc()


def _split(seed: int, part: int) -> Dataset:
    return hold_out(_bbc(), _TEST_SHARE, seed)[part]


def _draw(seed: int, part: int) -> Dataset:
    _, report = data.halves(_bbc())
    return data.draw(report, _ROWS_OF_A_DRAW, seed)[part]


@cache
def _example() -> Dataset:
    return load_dataset(SHOP, text="question", label="intent").dataset


@cache
def _loaded(kind: str) -> Dataset:
    """The questions without those that are like one of the test set."""
    if kind == "raw":
        example, tested = _example(), _customer_test()
        unlabelled = [None] * len(example)
        leaks = find_leaks(tested.texts, unlabelled, example.texts, unlabelled)
        leaked = {leak.test for leak in leaks}
        return example.take(row for row in range(len(example)) if row not in leaked)
    cleaned = bench_directory() / "training" / "questions-clean.csv"
    command = [sys.executable, "-m", "lepton", "data", "clean", str(SHOP), "--force"]
    options = ["--out", str(cleaned), "--held-out", str(SHOP_TEST)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return load_dataset(cleaned, text="question", label="intent").dataset


def _questions(kind: str, seed: int, part: int) -> Dataset:
    """Rows to learn from (part 0) and to choose on (1); only the first are ever rewritten."""
    learned, chosen = hold_out(_loaded("raw" if kind == "raw" else "clean"), 0.15, seed)
    if part:
        return chosen
    if kind != "augmented":
        return learned
    labels = [learned.labels[target] for target in learned.targets]
    held_out = [*chosen.texts, *_customer_test().texts]
    wanted = wanted_rows(labels, factor=1.0)
    added = augment(learned.texts, labels, wanted, held_out=held_out, seed=seed)
    return learned.joined(
        make_dataset(
            [new.text for new in added], [new.label for new in added], labels=learned.labels
        )
    )


@cache
def _customer_test() -> Dataset:
    labels = _example().labels
    return load_dataset(SHOP_TEST, text="question", label="intent", labels=labels).dataset
