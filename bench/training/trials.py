"""Trainings on one part of the data, told by their figures on another."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.cache import bench_directory
from lepton.files import replaced
from lepton.training import Dataset, TrainedModel, TrainingConfig, train
from lepton.training.encoder_scorer import Encoder
from lepton.training.features import Floats
from lepton.training.metrics import decide, summary
from lepton.training.run import read_manifest, versions

Figures = dict[str, float]
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Trial:
    """One method on one claim's data with one seed."""

    claim: str
    method: str
    seed: int
    config: TrainingConfig
    train: Callable[[], Dataset]
    test: Callable[[], Dataset]
    validation: Callable[[], Dataset] | None = None

    @property
    def name(self) -> str:
        """Unique among all trials."""
        return f"{self.claim}/{self.method}/{self.seed}"

    def run(self) -> Figures:
        """Train, or take the finished run of an interrupted bench, and evaluate on the test."""
        out = bench_directory() / "training" / "runs" / self.name.replace("/", "-")
        finished = versions(out)
        if finished:
            folder = finished[max(finished)]
        else:
            validation = self.validation() if self.validation else None
            folder = train(self.train(), self.config, out=out, validation=validation)
        test = self.test()
        scores = TrainedModel.load(folder).scores(test.texts)
        found = summary(
            decide(scores, test.objective), test.targets, test.objective, len(test.labels)
        )
        chosen = json.loads((folder / "metrics.json").read_text())["choices"]
        return {
            "macro_f1": found["macro_f1"].value,
            "accuracy": found["accuracy"].value,
            "validation": float(chosen["score"]),
        } | _picked(folder, self.method)


def _picked(folder: Path, method: str) -> Figures:
    return {f"picked {read_manifest(folder).method}": 1.0} if method == "auto" else {}


def measure(trials: list[Trial], file: Path, tell: Tell) -> None:
    """Run the trials that ``file`` (JSON: figures by name) does not hold yet."""
    with patch.object(Encoder, "embed", _remembering(Encoder.embed)):
        for trial in trials:
            known = load(file)
            if trial.name not in known:
                # Read again: another claim may have been measured meanwhile.
                figures = trial.run()
                known = load(file) | {trial.name: figures}
                store(known, file)
            tell(f"{trial.name}: {known[trial.name]}")


def _remembering(embed: Callable[..., Floats]) -> Callable[..., Floats]:
    """``Encoder.embed``, asked once for the same text: trials differ in seeds, not in texts."""
    vectors: dict[tuple[str, str], Floats] = {}

    def remembered(encoder: Encoder, texts: Sequence[str], *arguments: Any) -> Floats:
        new = list(dict.fromkeys(text for text in texts if (repr(encoder), text) not in vectors))
        if new:
            found = embed(encoder, new, *arguments)
            vectors.update(
                ((repr(encoder), text), row) for text, row in zip(new, found, strict=True)
            )
        return np.stack([vectors[repr(encoder), text] for text in texts])

    return remembered


def load(file: Path) -> dict[str, Figures]:
    """What was measured before, by name."""
    known: dict[str, Figures] = json.loads(file.read_text()) if file.is_file() else {}
    return known


def store(known: dict[str, Figures], file: Path) -> None:
    """Replace the file at once, so that an interrupted bench leaves a whole one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced(file) as part:
        part.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def table(known: dict[str, Figures]) -> str:
    """Markdown: a row for each claim and method, means over seeds and the least and the most."""
    lines = [
        "# What training reaches",
        "",
        "Written by `python -m bench training`. Means over seeds, in brackets the least and most.",
        "",
        "| data | method | seeds | macro-F1 | accuracy | validation score | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups: dict[tuple[str, str], list[Figures]] = {}
    for name, figures in known.items():
        if name == "throughput":
            continue
        claim, method, _ = name.split("/")
        groups.setdefault((claim, method), []).append(figures)
    # Real data first, made-up questions last.
    for claim, method in sorted(groups, key=lambda group: group[0].startswith("customer")):
        rows = groups[claim, method]
        measures = ("macro_f1", "accuracy", "validation")
        cells = [_cell([row[name] for row in rows]) for name in measures]
        picked = sorted({name for row in rows for name in row if name.startswith("picked")})
        notes = ", ".join(f"{name} {sum(name in row for row in rows)}×" for name in picked)
        lines.append(f"| {claim} | `{method}` | {len(rows)} | {' | '.join(cells)} | {notes} |")
    if "throughput" in known:
        speeds = known["throughput"]
        lines += [
            "",
            (
                "Fine-tuning MiniLM on 128 articles cut to 64 tokens, float32, medians of "
                f"interleaved rounds: {speeds['lepton']:.1f} texts/s, `transformers.Trainer` "
                f"{speeds['trainer']:.1f}, ratio {speeds['ratio']:.2f}."
            ),
        ]
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"
