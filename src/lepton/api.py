"""`LargeLanguageModel`: fit, encode and classify texts in a few lines."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lepton.errors import DataError, RequestError, UnavailableError
from lepton.training.config import Method, Objective, TrainingConfig
from lepton.training.dataset import Target, find_objective, label_set, make_dataset, name_of
from lepton.training.encoder_scorer import MULTILINGUAL_ENCODER, Encoder, EncoderScorer
from lepton.training.label_values import checked_targets, distinct_values, value_array
from lepton.training.scorers import ProgressCallback, no_progress
from lepton.training.trained_model import TrainedModel, check_threshold

Floats = npt.NDArray[np.float32]


class LargeLanguageModel:
    """A text classifier (or regressor) that is trained on examples and runs in the engine.

    It follows scikit-learn's conventions, so that ``clone``, ``cross_val_score`` and pipelines
    take it.

    >>> from lepton import LargeLanguageModel
    >>> model = LargeLanguageModel(method="linear")
    >>> texts = ["refund please", "money back", "where is my parcel", "parcel is late"] * 2
    >>> model.fit(texts, ["refund", "refund", "delivery", "delivery"] * 2).classify("money back!")
    'refund'
    """

    def __init__(
        self,
        method: Method = "auto",
        *,
        objective: Objective | None = None,
        encoder: str | None = None,
        fields: int = 1,
        class_weights: bool = False,
        epochs: int | None = None,
        learning_rate: float | None = None,
        max_tokens: int | None = None,
        threshold: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Choose how to learn; see `lepton.training.TrainingConfig` for the fields.

        A text whose best label is less probable than ``threshold`` gets none, here and wherever
        the saved run is at work.

        Nothing is checked or loaded before `fit`, as scikit-learn asks.
        """
        self.method = method
        self.objective = objective
        self.encoder = encoder
        self.fields = fields
        self.class_weights = class_weights
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.max_tokens = max_tokens
        self.threshold = threshold
        self.seed = seed

    def fit(
        self,
        texts: Iterable[str],
        labels: Iterable[Target],
        *,
        progress: ProgressCallback = no_progress,
    ) -> Self:
        """Learn from examples.

        Args:
            texts: one string each.
            labels: a label each, a sequence of labels each (multi), or a number each (regression).
                Labels may be whole numbers or truth values too, and are given back as such;
                ``save`` keeps them as text.
            progress: told what is going on.

        Raises:
            DataError: the examples cannot be learned from.
            ConfigurationError: a setting is out of range, or a package is missing.
        """
        from lepton.training.trainer import fit

        config = TrainingConfig(
            method=self.method,
            objective=self.objective,
            encoder=self.encoder,
            fields=self.fields,
            class_weights=self.class_weights,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            max_tokens=self.max_tokens,
            seed=self.seed,
        )
        check_threshold(self.threshold)
        targets = checked_targets(labels)
        objective = self.objective or find_objective(targets)
        classes = None if objective == "regression" else distinct_values(targets, objective)
        dataset = make_dataset(
            _strings(texts),
            targets,
            objective=objective,
            labels=None if classes is None or len(classes) < 2 else [*map(name_of, classes)],
        )
        # An encoder that was tuned stays in this folder while the model lives.
        self._folder = tempfile.TemporaryDirectory(prefix="lepton-")
        model = fit(dataset, config, state=Path(self._folder.name), progress=progress)
        manifest = replace(model.manifest, threshold=float(self.threshold))
        self.model_ = TrainedModel(manifest, model.scorer)
        self._learned(classes)
        return self

    def encode(self, text: str | Sequence[str]) -> Floats:
        """Vectors of texts, [dimensions] for one string and [texts, dimensions] for several.

        They come from the encoder that was tuned or chosen by `fit`, from ``encoder``, or from
        ``multilingual-e5-small``.

        Raises:
            ModelNotFoundError: the encoder is not on this machine.
        """
        texts = [text] if isinstance(text, str) else _strings(text)
        vectors = self._encoder().embed(texts)
        return vectors[0] if isinstance(text, str) else vectors

    def classify(self, text: str | Floats, *, threshold: float | None = None) -> Any:
        """The label of one text, or of one vector that `encode` gave; a number of a regression.

        A vector is judged by itself: what counted terms say of a text is not in it.
        None where the best label is less probable than ``threshold``, which is the model's own if
        not given.

        Raises:
            RequestError: it is neither a text nor a vector of this model's encoder, the model has
                no encoder, or the threshold is not between 0 and 1.
            UnavailableError: `fit` was not called.
        """
        if isinstance(text, str):
            return self.predict([text], threshold=threshold)[0]
        scorer = self._model.scorer
        try:
            vector = np.asarray(text, np.float32)
        except (TypeError, ValueError):
            raise RequestError(
                "classify takes one text or one vector; for several texts call predict"
            ) from None
        if not isinstance(scorer, EncoderScorer):
            raise RequestError(
                f"a model of method {self._model.manifest.method} has no encoder: give classify "
                "the text, or fit with method='head'"
            )
        if vector.shape != (len(scorer.weight),):
            raise RequestError(
                f"the vector has shape {vector.shape}; this model's encoder gives "
                f"({len(scorer.weight)},)"
            )
        scores = self._model.scaled(vector[None, :] @ scorer.weight + scorer.bias)
        return self._named(scores, threshold)[0]

    def predict(self, texts: Iterable[str], *, threshold: float | None = None) -> npt.NDArray[Any]:
        """The label of every text, as `fit` was given them; numbers of a regression.

        For several labels a text: an array of tuples. Where the best label is less probable than
        ``threshold``, which is the model's own if not given: None, or an empty tuple.

        Raises:
            RequestError: a text is no string, or the threshold is not between 0 and 1.
        """
        return self._named(self._model.scores(_strings(texts)), threshold)

    def predict_proba(self, texts: Iterable[str]) -> Floats:
        """Calibrated probabilities float32 [texts, labels], columns as in ``classes_``."""
        return self._model.probabilities(_strings(texts))

    def score(self, texts: Iterable[str], labels: Iterable[Target]) -> float:
        """Accuracy (the exact set, of several labels), or R² of a regression."""
        from lepton.training.metrics import r_squared

        wanted = list(labels)
        predicted = self.predict(texts)
        if len(wanted) != len(predicted):
            raise DataError(f"there are {len(predicted):,} texts but {len(wanted):,} labels")
        if self._model.manifest.objective == "regression":
            return r_squared(predicted, np.asarray(wanted, np.float64))
        if self._model.manifest.objective == "multi":
            pairs = zip(predicted, wanted, strict=True)
            same = [{*map(name_of, mine)} == {*label_set(right)} for mine, right in pairs]
            return float(np.mean(same))
        pairs = zip(predicted, wanted, strict=True)
        return float(np.mean([name_of(mine) == name_of(right) for mine, right in pairs]))

    def save(self, folder: str | Path) -> None:
        """Write a run that `load`, `lepton predict`, `evaluate` and `serve` take.

        Raises:
            ConfigurationError: the folder is not empty, or cannot be written.
        """
        from lepton.training.trainer import save_model

        save_model(self._model, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> LargeLanguageModel:
        """A fitted model from a run.

        Raises:
            ModelNotFoundError: there is no finished run.
            ModelFormatError: it is damaged.
        """
        trained = TrainedModel.load(folder)
        config = trained.manifest.config
        model = cls(
            method=config.method,
            objective=config.objective,
            encoder=config.encoder,
            fields=config.fields,
            class_weights=config.class_weights,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            max_tokens=config.max_tokens,
            threshold=trained.manifest.threshold,
            seed=config.seed,
        )
        model.model_ = trained
        model._learned(trained.labels)
        return model

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """The arguments of the constructor, for scikit-learn."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **parameters: Any) -> Self:
        """Change arguments of the constructor, for scikit-learn.

        Raises:
            ValueError: there is no such argument.
        """
        known = self.get_params()
        for name, value in parameters.items():
            if name not in known:
                raise ValueError(f"{name!r} is no parameter; there are {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        regression = self.objective == "regression"
        return Tags(
            estimator_type="regressor" if regression else "classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=None if regression else ClassifierTags(),
            regressor_tags=RegressorTags() if regression else None,
            input_tags=InputTags(two_d_array=False, string=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    @property
    def _model(self) -> TrainedModel:
        if not hasattr(self, "model_"):
            raise UnavailableError("the model has learned nothing yet: call fit or load first")
        return self.model_

    def _learned(self, classes: Sequence[Any] | None) -> None:
        """Set ``classes_``, in the order of the model's labels."""
        if classes:
            self.classes_ = value_array(classes)

    def _encoder(self) -> Encoder:
        scorer = self.model_.scorer if hasattr(self, "model_") else None
        if isinstance(scorer, EncoderScorer):
            return scorer.encoder
        wanted = Encoder(self.encoder or MULTILINGUAL_ENCODER)
        # The same one at every call, since it holds what it has loaded.
        if getattr(self, "_own_encoder", None) != wanted:
            self._own_encoder = wanted
        return self._own_encoder

    def _named(self, scores: npt.NDArray[Any], threshold: float | None) -> npt.NDArray[Any]:
        objective = self._model.manifest.objective
        least = self._model.manifest.threshold if threshold is None else threshold
        if objective == "regression":
            return scores[:, 0].astype(np.float64)
        if objective == "single" and least == 0:
            named: npt.NDArray[Any] = self.classes_[scores.argmax(axis=1)]
            return named
        predictions = self._model.decide(self._model.as_probabilities(scores), least)
        value_of = dict(zip(self._model.labels, self.classes_.tolist(), strict=True))
        values = [tuple(value_of[label] for label in each.labels) for each in predictions]
        found = np.empty(len(values), object)
        found[:] = [row[0] if row else None for row in values] if objective == "single" else values
        return found


def _strings(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise RequestError("give a list of texts, not one string")
    found = [
        text.item() if isinstance(text, np.ndarray) and text.size == 1 else text for text in texts
    ]
    return [str(text) if isinstance(text, np.str_) else text for text in found]
