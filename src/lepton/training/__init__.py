"""Make models: train, evaluate, and run what was trained without the packages that trained it.

Names are imported on first use, so that running a model does not load what training one needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lepton.training.config import TrainingConfig
    from lepton.training.dataset import Dataset, make_dataset
    from lepton.training.evaluation import Evaluation, evaluate
    from lepton.training.loading import load_dataset
    from lepton.training.predict import predict_file
    from lepton.training.predict_stream import predict_stream
    from lepton.training.run import locate_run
    from lepton.training.trained_model import Prediction, TrainedModel
    from lepton.training.trainer import train

_MODULES = {
    "Dataset": "dataset",
    "Evaluation": "evaluation",
    "Prediction": "trained_model",
    "TrainedModel": "trained_model",
    "TrainingConfig": "config",
    "evaluate": "evaluation",
    "load_dataset": "loading",
    "locate_run": "run",
    "make_dataset": "dataset",
    "predict_file": "predict",
    "predict_stream": "predict_stream",
    "train": "trainer",
}
__all__ = [
    "Dataset",
    "Evaluation",
    "Prediction",
    "TrainedModel",
    "TrainingConfig",
    "evaluate",
    "load_dataset",
    "locate_run",
    "make_dataset",
    "predict_file",
    "predict_stream",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
