"""Fine-tuning beside `transformers.Trainer`: the same encoder, rows, batches and optimizer."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.training import data
from bench.training.trials import Figures, Tell
from lepton.training import Dataset, TrainingConfig
from lepton.training.finetune import fit_finetune
from lepton.training.pretrained import find_pretrained

ROUNDS = 3
_ROWS = 128
_CONFIG = TrainingConfig(
    method="finetune", encoder="all-minilm-l6-v2", max_tokens=64, epochs=1, batch_size=16
)


def measure_throughput(tell: Tell) -> Figures:
    """Texts per second of both, medians over interleaved rounds, and their ratio."""
    rows = data.bbc()
    step = len(rows) // _ROWS
    train, checked = rows.take(range(0, step * _ROWS, step)), rows.take(range(1, len(rows), 100))
    speeds: dict[str, list[float]] = {"lepton": [], "trainer": []}
    for number in range(ROUNDS):
        sides: tuple[tuple[str, Callable[[Dataset, Dataset], float]], ...] = (
            ("lepton", _ours),
            ("trainer", _trainers),
        )
        for name, side in sides if number % 2 == 0 else reversed(sides):
            speeds[name].append(side(train, checked))
            tell(f"{name}: {speeds[name][-1]:.1f} texts/s")
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return medians | {"ratio": medians["lepton"] / medians["trainer"]}


class _Clock:
    """Texts per second from the end of the first batch to the end of the last."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def tick(self) -> None:
        self.moments.append(time.perf_counter())

    def speed(self, batch_size: int) -> float:
        return (len(self.moments) - 1) * batch_size / (self.moments[-1] - self.moments[0])


def _ours(train: Dataset, checked: Dataset) -> float:
    clock = _Clock()

    def progress(stage: str, _done: int, _total: int | None, _: Mapping[str, float]) -> None:
        if stage == "epoch":
            clock.tick()

    config = _CONFIG.resolved()
    with tempfile.TemporaryDirectory() as state:
        fit_finetune(train, checked, config, Path(state), progress)
    return clock.speed(config.batch_size or 0)


def _trainers(train: Dataset, _: Dataset) -> float:
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    config = _CONFIG.resolved()
    clock = _Clock()

    class Ticks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    with tempfile.TemporaryDirectory() as state:
        source = find_pretrained(config.encoder or "", config.max_tokens or 0, Path(state))
        model = AutoModelForSequenceClassification.from_pretrained(
            source.folder, num_labels=len(train.labels)
        )
        arguments = TrainingArguments(
            state,
            num_train_epochs=1,
            per_device_train_batch_size=config.batch_size or 0,
            learning_rate=config.learning_rate or 0.0,
            weight_decay=config.weight_decay,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        rows = [
            {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(target)}
            for ids, target in zip(source.tokens(train.texts), train.targets, strict=True)
        ]
        Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(source.folder)),
            callbacks=[Ticks()],
        ).train()
    return clock.speed(config.batch_size or 0)
