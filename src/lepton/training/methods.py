"""Which function fits which method, and how `auto` chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from lepton.errors import ConfigurationError
from lepton.training.config import ARCHITECTURES, Method, TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.scorers import Fitted, ProgressCallback

FitFunction = Callable[[Dataset, Dataset | None, TrainingConfig, Path, ProgressCallback], Fitted]


def fit_method(
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,
    progress: ProgressCallback,
) -> tuple[Method, Fitted]:
    """Fit the configured method, or with `auto` those that suit the data, and keep the best.

    Raises:
        ConfigurationError: a package that the method needs is missing.
    """
    if config.method != "auto":
        return config.method, _function(config.method)(dataset, validation, config, state, progress)
    from lepton.training.auto import fit_auto

    return fit_auto(dataset, validation, config, state, progress)


def fit_one(
    method: Method,
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    state: Path,
    progress: ProgressCallback,
) -> Fitted:
    """Fit ``method`` with its own defaults."""
    chosen = replace(config, method=method).resolved()
    return _function(method)(dataset, validation, chosen, state, progress)


def _function(method: Method) -> FitFunction:
    _need("sklearn", "scikit-learn")
    if method == "linear":
        from lepton.training.fit_linear import fit_linear_method

        return fit_linear_method
    if method == "head":
        from lepton.training.head import fit_head

        return fit_head
    _need("torch", "torch")
    if method in ARCHITECTURES:
        from lepton.training.fit_network import fit_network

        return fit_network
    _need("transformers", "transformers")
    if method == "fewshot":
        from lepton.training.fewshot import fit_fewshot

        return fit_fewshot
    from lepton.training.finetune import fit_finetune

    return fit_finetune


def _need(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise ConfigurationError(
            f"training needs {package}, which is not installed: pip install 'lepton-engine[train]'"
        )
