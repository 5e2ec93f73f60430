"""`train`: from a dataset to a finished run."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from lepton.errors import ConfigurationError, DataError
from lepton.models import catalogue
from lepton.training import run as runs
from lepton.training import unfinished
from lepton.training.card import model_card
from lepton.training.confidence import calibration, decisions
from lepton.training.config import TrainingConfig
from lepton.training.dataset import Dataset
from lepton.training.methods import fit_method, fit_one
from lepton.training.metrics import CALIBRATION_ERROR, Interval, decide, summary
from lepton.training.probabilities import fit_temperature, to_probabilities
from lepton.training.run import BASELINE, RunManifest
from lepton.training.scorers import Fitted, ProgressCallback, no_progress
from lepton.training.selection import outputs
from lepton.training.trained_model import TrainedModel

STATE = "state"
"""Folder of what an interrupted training continues from; gone once the run is finished."""


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a regression's targets; (0, 1) for labels."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, dataset: Dataset) -> Scale:
        """The scale of the dataset's numbers."""
        if dataset.objective != "regression":
            return cls()
        return cls(float(dataset.targets.mean()), float(dataset.targets.std()) or 1.0)

    def applied(self, dataset: Dataset) -> Dataset:
        """The dataset with targets of mean 0 and deviation 1."""
        if dataset.objective != "regression":
            return dataset
        return replace(dataset, targets=(dataset.targets - self.mean) / self.deviation)


def train(
    dataset: Dataset,
    config: TrainingConfig | None = None,
    *,
    out: str | Path,
    validation: Dataset | None = None,
    source: str = "",
    text_columns: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> Path:
    """Train a model and leave a finished run behind.

    Args:
        dataset: rows to learn from.
        config: method and settings.
        out: name of the run, such as ``runs/intents``; the run becomes ``runs/intents@N`` with the
            next free N. One that was begun with the same data and settings and not finished is
            continued instead.
        validation: rows to make choices on; part of ``dataset`` if not given.
        source: where the data came from, for the model card.
        text_columns: columns that the texts came from, which evaluation and prediction then look
            for in their tables.
        progress: told what is going on.

    Returns:
        The run's folder.

    Raises:
        DataError: the data cannot be learned from.
        ConfigurationError: the method lacks a package, or the folder cannot be written.
    """
    config = _settled(config, dataset)
    _check(dataset, validation)
    path = Path(out).expanduser()
    begun = {
        "config": config.as_json(),
        "data": dataset.fingerprint(),
        "validation": validation.fingerprint() if validation else None,
    }
    with unfinished.folder_of(path, begun) as folder:
        scale = Scale.of(dataset)
        state = folder / STATE
        state.mkdir(exist_ok=True)
        scaled_validation = scale.applied(validation) if validation else None
        method, fitted = fit_method(
            scale.applied(dataset), scaled_validation, config, state, progress
        )
        settings = replace(config, method=method)
        if method != "linear":
            _save_baseline(folder, dataset, scaled_validation, settings, scale, state, progress)
        progress("save", 0, None, {})
        _save(folder, dataset, settings, fitted, scale, source, text_columns)
        (folder / unfinished.BEGUN).unlink()
        shutil.rmtree(state)
    return folder


def fit(
    dataset: Dataset,
    config: TrainingConfig | None = None,
    *,
    validation: Dataset | None = None,
    state: Path,
    progress: ProgressCallback = no_progress,
) -> TrainedModel:
    """Train a model that stays in memory; ``state`` is a folder for intermediate files.

    Raises:
        DataError: the data cannot be learned from.
        ConfigurationError: the method lacks a package.
    """
    config = _settled(config, dataset)
    _check(dataset, validation)
    scale = Scale.of(dataset)
    scaled_validation = scale.applied(validation) if validation else None
    method, fitted = fit_method(scale.applied(dataset), scaled_validation, config, state, progress)
    manifest = _manifest("model", 1, dataset, replace(config, method=method), fitted, scale, {})
    return TrainedModel(manifest, fitted.scorer)


def save_model(model: TrainedModel, folder: Path) -> None:
    """Write a model of `fit` as a run into a folder, which must be new or empty.

    Raises:
        ConfigurationError: there is something in the folder already, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is not empty; save into a new folder")
        described = model.scorer.save(folder)
        name, version = runs.split_name(folder.name)
        manifest = replace(model.manifest, name=name, version=version or 1, model=described)
        runs.write_text(folder / runs.CARD, model_card(manifest, {}, ""))
        runs.write_manifest(folder, manifest)
    except OSError as error:
        raise runs.cannot_write(folder, error) from error


def _settled(config: TrainingConfig | None, dataset: Dataset) -> TrainingConfig:
    """The configuration without what is left open or depends on the working directory."""
    config = replace(config or TrainingConfig(), objective=dataset.objective).resolved()
    if config.encoder is None or config.encoder in catalogue.entries():
        return config
    path = Path(config.encoder).expanduser()
    return replace(config, encoder=str(path.resolve())) if path.exists() else config


def _check(dataset: Dataset, validation: Dataset | None) -> None:
    if dataset.objective == "single":
        lonely = [label for label, count in dataset.counts().items() if count == 1]
        if lonely and validation is None:
            shown = ", ".join(repr(label)[:40] for label in lonely[:5])
            raise DataError(
                f"{len(lonely)} labels have a single row ({shown}): choices could not be checked. "
                "Add rows, merge labels, or leave those rows out"
            )
    if validation is not None and (
        validation.labels != dataset.labels or validation.objective != dataset.objective
    ):
        raise DataError("validation and training data do not have the same labels and objective")
    if len(dataset) < 4:
        raise DataError(f"{len(dataset)} rows are too few to learn from; give at least 4")


def _save(
    folder: Path,
    dataset: Dataset,
    config: TrainingConfig,
    fitted: Fitted,
    scale: Scale,
    source: str,
    text_columns: Sequence[str],
) -> None:
    described = fitted.scorer.save(folder)
    name, version = runs.split_name(folder.name)
    manifest = _manifest(name, version or 1, dataset, config, fitted, scale, described)
    manifest = replace(manifest, text_columns=tuple(text_columns))
    metrics = _metrics(manifest, fitted)
    runs.write_json(folder / runs.METRICS, metrics)
    if fitted.curves:
        runs.write_text(folder / runs.CURVES, _table(fitted.curves))
    runs.write_text(folder / runs.CARD, model_card(manifest, metrics, source, dataset.counts()))
    runs.write_manifest(folder, manifest)


def _save_baseline(
    folder: Path,
    dataset: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    scale: Scale,
    state: Path,
    progress: ProgressCallback,
) -> None:
    """Leave a `linear` model of the same data inside the run, for `evaluate` to compare with."""
    fitted = fit_one("linear", scale.applied(dataset), validation, config, state, progress)
    inside = folder / BASELINE
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir()
    described = fitted.scorer.save(inside)
    name, version = runs.split_name(folder.name)
    settings = replace(config, method="linear")
    manifest = _manifest(
        f"{name}-linear", version or 1, dataset, settings, fitted, scale, described
    )
    runs.write_manifest(inside, manifest)


def _manifest(
    name: str,
    version: int,
    dataset: Dataset,
    config: TrainingConfig,
    fitted: Fitted,
    scale: Scale,
    described: Mapping[str, Any],
) -> RunManifest:
    held_out = fitted.held_out
    return RunManifest(
        name=name,
        version=version,
        method=config.method,
        objective=dataset.objective,
        labels=dataset.labels,
        config=config,
        data_fingerprint=dataset.fingerprint(),
        num_rows=len(dataset),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        lepton_version=installed_version("lepton-engine"),
        temperature=fit_temperature(fitted.held_out_scores, held_out.targets, held_out.objective),
        target_mean=scale.mean,
        target_scale=scale.deviation,
        model=described,
    )


def _metrics(manifest: RunManifest, fitted: Fitted) -> dict[str, Any]:
    held_out, scores = fitted.held_out, fitted.held_out_scores
    predicted = decide(scores, held_out.objective)
    numbers: dict[str, Interval] = summary(
        predicted, held_out.targets, held_out.objective, outputs(held_out)
    )
    result: dict[str, Any] = {
        "held_out_rows": len(held_out),
        "held_out": {
            name: {"value": number.value, "low": number.low, "high": number.high}
            for name, number in numbers.items()
        },
        "choices": dict(fitted.details),
    }
    if held_out.objective != "regression":
        probabilities = to_probabilities(scores, held_out.objective, manifest.temperature)
        _, error = calibration(
            *decisions(probabilities, predicted, held_out.targets, held_out.objective)
        )
        result["held_out"][CALIBRATION_ERROR] = {"value": error}
    return result


def _table(rows: Sequence[Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
