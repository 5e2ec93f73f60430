"""What every method hands back, and what it is told while it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lepton.training.dataset import Dataset

Floats = npt.NDArray[np.float32]
ProgressCallback = Callable[[str, int, int | None, Mapping[str, float]], None]
"""Called with the stage, steps done, steps in all (None: unknown) and live metrics."""


def no_progress(stage: str, done: int, total: int | None, metrics: Mapping[str, float]) -> None:
    """A progress callback that shows nothing."""


class Scorer(Protocol):
    """A model that was trained: texts to scores, without torch."""

    def scores(self, texts: Sequence[str]) -> Floats:
        """Float32 [texts, outputs]: logits by label, or one number in units of its scale."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights; the result is JSON for the manifest's ``model``."""


@dataclass(frozen=True)
class Fitted:
    """The outcome of one method."""

    scorer: Scorer
    held_out: Dataset
    """Rows that the scores below were not trained on."""
    held_out_scores: Floats
    details: Mapping[str, Any] = field(default_factory=dict)
    """Choices that were made, for ``metrics.json``."""
    curves: Sequence[Mapping[str, float]] = ()
