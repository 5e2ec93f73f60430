"""Method `auto`: fit what suits the data, and keep what does best on rows it has not seen."""

from __future__ import annotations

from pathlib import Path

from lepton.errors import ConfigurationError, ModelNotFoundError
from lepton.training.config import Method, TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.methods import fit_one
from lepton.training.scorers import Fitted, ProgressCallback
from lepton.training.selection import clearly_better

FEW_ROWS = 32
"""Up to so many rows of every label, `fewshot` is tried too, and stands first; it is tuned several
times over, which takes minutes and pays where there is little else to learn from."""


def candidates(dataset: Dataset) -> tuple[Method, ...]:
    """What is tried: first what is kept unless another is clearly better."""
    few = dataset.objective == "single" and max(dataset.counts().values()) <= FEW_ROWS
    return ("fewshot", "head", "linear") if few else ("linear", "head")


def fit_auto(
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,
    progress: ProgressCallback,
) -> tuple[Method, Fitted]:
    """Fit every candidate; keep the first unless another is better, of few rows clearly better.

    A method whose encoder is not on this machine, or whose package is missing, is passed over and
    named in the run's metrics.
    """
    tried: dict[str, object] = {}
    best: tuple[Method, Fitted] | None = None
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
        tried[method] = dict(fitted.details)
        if best is None or clearly_better(
            fitted.held_out_scores, best[1].held_out_scores, fitted.held_out
        ):
            best = method, fitted
    assert best is not None  # noqa: S101
    method, fitted = best
    details = {**fitted.details, "tried": tried}
    return method, Fitted(
        fitted.scorer, fitted.held_out, fitted.held_out_scores, details, fitted.curves
    )
