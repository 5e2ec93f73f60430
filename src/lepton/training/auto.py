"""Method `auto`: fit what suits the data, and keep what does best on rows it has not seen."""

from __future__ import annotations

from pathlib import Path

from lepton.errors import ConfigurationError, ModelNotFoundError
from lepton.training.config import Method, TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.methods import fit_one
from lepton.training.scorers import Fitted, ProgressCallback

FEW_ROWS = 32
"""Up to so many rows of every label, `fewshot` is tried too; it is tuned several times over, which
takes minutes and pays where there is little else to learn from."""


def candidates(dataset: Dataset) -> tuple[Method, ...]:
    """What is tried, the simplest first."""
    few = dataset.objective == "single" and max(dataset.counts().values()) <= FEW_ROWS
    return ("linear", "head", "fewshot") if few else ("linear", "head")


def fit_auto(
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,
    progress: ProgressCallback,
) -> tuple[Method, Fitted]:
    """Fit every candidate; the best validation score wins, the simpler method where equal.

    A method whose encoder is not on this machine, or whose package is missing, is passed over and
    named in the run's metrics.
    """
    tried: dict[str, object] = {}
    best: tuple[Method, Fitted] | None = None
    best_score = float("-inf")
    for method in candidates(dataset):

        def tell(
            stage: str, done: int, total: int | None, metrics: object, method: str = method
        ) -> None:
            progress(f"{stage} {method}", done, total, metrics)  # type: ignore[arg-type]

        try:
            fitted = fit_one(method, dataset, validation, config, state, tell)
        except (ConfigurationError, ModelNotFoundError) as error:
            if method == "linear":
                raise
            tried[method] = {"passed_over": str(error)}
            continue
        score = float(fitted.details["score"])
        tried[method] = dict(fitted.details)
        if score > best_score:
            best, best_score = (method, fitted), score
    assert best is not None  # noqa: S101
    method, fitted = best
    details = {**fitted.details, "tried": tried}
    return method, Fitted(
        fitted.scorer, fitted.held_out, fitted.held_out_scores, details, fitted.curves
    )
