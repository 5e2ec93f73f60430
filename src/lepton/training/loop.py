"""The training loop that networks and fine-tuning share; continues after being killed.

Everything that decides the next step is in one file of the state folder, written whole at the end
of each epoch and every half minute: a killed training goes on from there and ends as it would have.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from lepton.errors import ConfigurationError
from lepton.files import replaced
from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.scorers import ProgressCallback
from lepton.training.selection import judge

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Score = Callable[[Indices], Tensor]
"""Scores [rows, outputs], with gradients, of rows of the training data."""

SAVE_SECONDS = 30.0
_POOL_BATCHES = 32


@dataclass
class Trained:
    """What came out: the module holds the best epoch's weights."""

    score: float
    scores: Floats
    """Of the validation rows, in the best epoch."""
    curves: list[dict[str, float]]


@dataclass
class _Place:
    """Where a training is."""

    epoch: int = 0
    batch: int = 0
    """Batches of this epoch that are done."""
    step: int = 0
    loss_sum: float = 0.0
    stale: int = 0
    """Epochs since the best."""
    plateau_factor: float = 1.0
    best_score: float = -math.inf
    curves: list[dict[str, float]] = field(default_factory=list)


class Loop:
    """Trains one module on a dataset."""

    def __init__(
        self,
        module: nn.Module,
        dataset: Dataset,
        lengths: Indices,
        score: Score,
        validate: Callable[[], Floats],
        validation: Dataset,
        config: TrainingConfig,
        file: Path,
        progress: ProgressCallback,
    ) -> None:
        """Prepare a training.

        Args:
            module: parameters with ``requires_grad`` are trained.
            dataset: rows to learn from.
            lengths: tokens of each row; rows of like length share a batch.
            score: scores rows in training mode.
            validate: scores all validation rows in evaluation mode.
            validation: those rows.
            config: resolved settings.
            file: where the state is kept.
            progress: told about epochs and the loss.
        """
        self.module = module
        self.dataset, self.lengths = dataset, lengths
        self.score, self.validate, self.validation = score, validate, validation
        self.config, self.file, self.progress = config, file, progress
        assert config.epochs is not None  # noqa: S101
        assert config.batch_size is not None  # noqa: S101
        self.epochs, self.batch_size = config.epochs, config.batch_size
        self.batches_per_epoch = math.ceil(len(dataset) / self.batch_size)
        self.steps = self.epochs * math.ceil(self.batches_per_epoch / config.accumulation)
        self.loss = loss_function(dataset, config)
        self.targets = torch.from_numpy(np.ascontiguousarray(dataset.targets))
        if dataset.objective == "regression":
            self.targets = self.targets.float()
        self.parameters = [
            parameter for parameter in module.parameters() if parameter.requires_grad
        ]
        self.optimizer = torch.optim.AdamW(_groups(self.parameters, config), lr=1.0, fused=True)
        self.place = _Place()
        self.best: dict[str, Tensor] = {}
        self.best_scores: Floats = np.zeros(0, np.float32)

    def run(self) -> Trained:
        """Train to the end, or to where `patience` is used up.

        Raises:
            ConfigurationError: the loss, a score or a weight is no finite number any more.
        """
        self._restore()
        saved = time.monotonic()
        while self.place.epoch < self.epochs and self.place.stale < self.config.patience:
            order = self._order(self.place.epoch)
            for batch in order[self.place.batch :]:
                self._train_batch(batch)
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._store()
                    saved = time.monotonic()
            self._end_epoch()
            self._store()
            saved = time.monotonic()
        self.module.load_state_dict(self.best)
        return Trained(self.place.best_score, self.best_scores, self.place.curves)

    def _train_batch(self, rows: Indices) -> None:
        place, config = self.place, self.config
        self.module.train()
        loss = self.loss(self.score(rows), self.targets[torch.from_numpy(rows)])
        # The mean over all batches of a step, whose last group may be short.
        first = place.batch - place.batch % config.accumulation
        together = min(config.accumulation, self.batches_per_epoch - first)
        check_finite(self.config, self.place.epoch, loss.detach())
        (loss / together).backward()  # type: ignore[no-untyped-call]
        place.loss_sum += float(loss.detach())
        place.batch += 1
        if place.batch % config.accumulation == 0 or place.batch == self.batches_per_epoch:
            nn.utils.clip_grad_norm_(self.parameters, config.max_gradient_norm)
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            place.step += 1
        done = place.epoch * self.batches_per_epoch + place.batch
        metrics = {"epoch": place.epoch + 1.0, "loss": place.loss_sum / place.batch}
        if place.curves:
            metrics["score"] = place.best_score
        self.progress("epoch", done, self.epochs * self.batches_per_epoch, metrics)

    def _end_epoch(self) -> None:
        place = self.place
        self.module.eval()
        with torch.no_grad():
            scores = self.validate()
            loss = self.loss(
                torch.from_numpy(scores),
                torch.from_numpy(np.asarray(self.validation.targets)).to(self.targets.dtype),
            )
        check_finite(
            self.config, self.place.epoch, loss, torch.from_numpy(scores), *self.parameters
        )
        score = judge(scores, self.validation)
        place.curves.append(
            {
                "epoch": place.epoch + 1,
                "train_loss": round(place.loss_sum / max(place.batch, 1), 6),
                "validation_loss": round(float(loss), 6),
                "score": round(score, 6),
                "learning_rate": self._learning_rate(),
            }
        )
        if score > place.best_score:
            place.best_score, place.stale = score, 0
            self.best = {
                name: value.detach().clone() for name, value in self.module.state_dict().items()
            }
            self.best_scores = scores
        else:
            place.stale += 1
            if self.config.schedule == "plateau":
                place.plateau_factor *= 0.5
        place.epoch, place.batch, place.loss_sum = place.epoch + 1, 0, 0.0

    def _learning_rate(self) -> float:
        return learning_rate(self.config, self.place.step, self.steps) * self.place.plateau_factor

    def _order(self, epoch: int) -> list[Indices]:
        """Batches of an epoch: shuffled, then sorted by length within a pool, then shuffled."""
        generator = np.random.default_rng((self.config.seed, epoch))
        order = generator.permutation(len(self.dataset))
        pool = self.batch_size * _POOL_BATCHES
        batches = []
        for start in range(0, len(order), pool):
            rows = order[start : start + pool]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches += [
                rows[at : at + self.batch_size] for at in range(0, len(rows), self.batch_size)
            ]
        # The group cut short stays last only by chance; what counts is that it is the same again.
        return [batches[index] for index in generator.permutation(len(batches))]

    def _store(self) -> None:
        gradients = [
            None if parameter.grad is None else parameter.grad for parameter in self.parameters
        ]
        state = {
            "place": vars(self.place),
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "gradients": gradients,
            "generator": torch.get_rng_state(),
            "best": self.best,
            "best_scores": torch.from_numpy(self.best_scores),
        }
        # Through memory: what is wrong with a disk is an OSError of ours, not an error of torch's.
        content = io.BytesIO()
        torch.save(state, content)
        with replaced(self.file) as part:
            part.write_bytes(content.getbuffer())

    def _restore(self) -> None:
        if not self.file.is_file():
            return
        state: Mapping[str, Any] = torch.load(self.file, weights_only=True)
        self.place = _Place(**state["place"])
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, gradient in zip(self.parameters, state["gradients"], strict=True):
            parameter.grad = gradient
        torch.set_rng_state(state["generator"])
        self.best = state["best"]
        self.best_scores = state["best_scores"].numpy()


def check_finite(config: TrainingConfig, epoch: int, *values: Tensor) -> None:
    """Stop a training that has diverged in ``epoch``, counted from 0.

    Raises:
        ConfigurationError: one of ``values`` holds what is no finite number.
    """
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise ConfigurationError(
            f"training diverged in epoch {epoch + 1}: the numbers are no longer finite. Give a "
            f"learning rate below {config.learning_rate:g}"
        )


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """The step size of optimizer step ``step`` of ``steps``: warm-up, then the schedule's decay."""
    assert config.learning_rate is not None  # noqa: S101
    warmup = round(config.warmup_share * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    if config.schedule == "linear":
        return config.learning_rate * max(0.0, 1.0 - share)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
    return config.learning_rate


def loss_function(dataset: Dataset, config: TrainingConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy (single), binary cross-entropy (multi) or mean squared error (regression)."""
    smoothing = config.label_smoothing
    if dataset.objective == "regression":
        return lambda scores, targets: f.mse_loss(scores[:, 0], targets)
    counts = np.maximum(np.asarray(list(dataset.counts().values()), np.float64), 1.0)
    if dataset.objective == "single":
        balanced = len(dataset) / (len(counts) * counts)
        weights = torch.tensor(balanced, dtype=torch.float32) if config.class_weights else None
        return lambda scores, targets: f.cross_entropy(
            scores, targets, weight=weights, label_smoothing=smoothing
        )
    rarity = (len(dataset) - counts) / counts
    positive = torch.tensor(rarity, dtype=torch.float32) if config.class_weights else None
    return lambda scores, targets: f.binary_cross_entropy_with_logits(
        scores, targets * (1 - smoothing) + 0.5 * smoothing, pos_weight=positive
    )


def _groups(parameters: list[nn.Parameter], config: TrainingConfig) -> list[dict[str, Any]]:
    """Decay matrices, but neither biases nor norms."""
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    others = [parameter for parameter in parameters if parameter.dim() <= 1]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
