"""A run at work: texts in, labels with probabilities out. No torch, no scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.errors import RequestError
from lepton.training.config import ARCHITECTURES
from lepton.training.probabilities import to_probabilities
from lepton.training.run import RunManifest, locate_run, read_manifest, split_name
from lepton.training.scorers import Floats, Scorer


@dataclass(frozen=True)
class Prediction:
    """What a model says about one text."""

    labels: tuple[str, ...]
    """One label, several (multi), or none: no label was probable enough, or it is a regression."""
    probability: float | None
    """Of the best label; None for a regression."""
    value: float | None = None
    """The number, for a regression."""

    @property
    def label(self) -> str | None:
        """The best label, or None."""
        return self.labels[0] if self.labels else None


class TrainedModel:
    """A finished run, loaded; safe for use from several threads."""

    def __init__(self, manifest: RunManifest, scorer: Scorer) -> None:
        self.manifest = manifest
        self.scorer = scorer

    @classmethod
    def load(cls, path: str | Path) -> TrainedModel:
        """Load a run by its folder, or the newest version of a name (``runs/intents``).

        It is called what its folder is called now, also where that is a copy of another run.

        Raises:
            ModelNotFoundError: there is no finished run, or its encoder is not on this machine.
            ModelFormatError: a file of the run is damaged.
        """
        folder = locate_run(path)
        manifest = read_manifest(folder)
        name, version = split_name(folder.name)
        if version is not None:
            manifest = replace(manifest, name=name, version=version)
        return cls(manifest, _load_scorer(folder, manifest))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the columns of `probabilities`."""
        return self.manifest.labels

    @property
    def name(self) -> str:
        """``name@version``."""
        return self.manifest.full_name

    def scores(self, texts: Sequence[str]) -> Floats:
        """Raw scores [texts, labels], or numbers [texts, 1] of a regression.

        Raises:
            RequestError: one of the texts is no string.
        """
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise RequestError(f"text {index} is a {type(text).__name__}, not a string")
        return self.scaled(self.scorer.scores(texts))

    def scaled(self, scores: Floats) -> Floats:
        """Scores of the scorer; of a regression, in the units of the data."""
        if self.manifest.objective != "regression":
            return scores
        scale, mean = np.float32(self.manifest.target_scale), np.float32(self.manifest.target_mean)
        return scores * scale + mean

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Calibrated probabilities float32 [texts, labels].

        Raises:
            RequestError: the model predicts numbers, or a text is no string.
        """
        if self.manifest.objective == "regression":
            raise RequestError(f"{self.name} predicts numbers, which have no probabilities")
        return self.as_probabilities(self.scores(texts))

    def as_probabilities(self, scores: npt.NDArray[Any]) -> Floats:
        """Probabilities of `scores`."""
        return to_probabilities(scores, self.manifest.objective, self.manifest.temperature)

    def predict(self, texts: Sequence[str], *, threshold: float | None = None) -> list[Prediction]:
        """The label, labels or number of every text.

        Args:
            texts: any number of texts.
            threshold: a best label less probable than this is left out; None takes the run's own.

        Raises:
            RequestError: a text is no string, or the threshold is not between 0 and 1.
        """
        scores = self.scores(texts)
        if self.manifest.objective == "regression":
            return [Prediction((), None, float(value)) for value in scores[:, 0]]
        return self.decide(self.as_probabilities(scores), threshold)

    def decide(self, probabilities: Floats, threshold: float | None = None) -> list[Prediction]:
        """Predictions from probabilities [texts, labels]; arguments as for `predict`."""
        check_threshold(threshold)
        least = self.manifest.threshold if threshold is None else threshold
        best = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, np.int64)
        predictions = []
        for row, index in zip(probabilities, best, strict=True):
            top = float(row[index])
            if self.manifest.objective == "single":
                chosen: tuple[str, ...] = (self.labels[index],) if top >= least else ()
            else:
                ranked = np.argsort(-row, kind="stable")
                chosen = tuple(
                    self.labels[label] for label in ranked if row[label] > max(0.5, least)
                )
            predictions.append(Prediction(chosen, top))
        return predictions

    def describe(self, prediction: Prediction) -> dict[str, Any]:
        """A prediction as JSON: ``label`` and ``probability``, ``labels``, or ``value``."""
        if self.manifest.objective == "regression":
            return {"value": prediction.value}
        if self.manifest.objective == "multi":
            return {"labels": list(prediction.labels), "probability": prediction.probability}
        return {"label": prediction.label, "probability": prediction.probability}


def check_threshold(threshold: float | None) -> None:
    """Raise RequestError unless ``threshold`` is a probability, or None."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise RequestError(
            f"the threshold {threshold} is no probability: give one between 0 and 1",
            param="threshold",
        )


def _load_scorer(folder: Path, manifest: RunManifest) -> Scorer:
    model = dict(manifest.model)
    num_outputs = len(manifest.labels) or 1
    if manifest.method == "linear":
        from lepton.training.linear import LinearScorer

        return LinearScorer.load(folder, model, num_outputs)
    if manifest.method in ARCHITECTURES:
        from lepton.training.networks import NetworkScorer

        return NetworkScorer.load(folder, model, num_outputs)
    from lepton.training.encoder_scorer import EncoderScorer

    return EncoderScorer.load(folder, model, num_outputs)
