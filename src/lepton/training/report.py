"""The HTML page of an evaluation: one file, nothing loaded from elsewhere."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lepton.errors import ConfigurationError
from lepton.training.evaluation import Evaluation

if TYPE_CHECKING:
    import jinja2

_MAX_DRAWN_LABELS = 10
_MAX_MATRIX = 60


def html_report(evaluation: Evaluation) -> str:
    """The evaluation as a page.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    values = evaluation.values
    plots = {}
    if values.get("curves"):
        plots["Precision and recall"] = _ranking(values["curves"], "precision_recall")
        plots["ROC"] = _ranking(values["curves"], "roc")
    if "calibration" in values:
        plots["Calibration"] = _calibration(values["calibration"]["bins"])
    if "coverage" in values:
        plots["Accuracy by coverage"] = _coverage(values["coverage"])
    if values.get("scatter"):
        plots["Predicted and actual"] = _scatter(values["scatter"])
    if "training_curves" in values:
        plots["Training"] = _training(values["training_curves"])
    matrix = values.get("confusion")
    return _template().render(
        evaluation=values,
        plots=plots,
        confusion=_shaded(matrix, values["labels"])
        if matrix and len(matrix) <= _MAX_MATRIX
        else None,
    )


@cache
def _template() -> jinja2.Template:
    import jinja2

    text = files("lepton.training").joinpath("report.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)


def _shaded(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the confusion matrix with the share of each cell in its row."""
    rows = []
    for label, counts in zip(labels, matrix, strict=True):
        total = max(1, sum(counts))
        cells = [{"count": count, "share": count / total} for count in counts]
        rows.append({"label": label, "cells": cells})
    return rows


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the report draws with matplotlib, which is not installed: "
            "pip install 'lepton-engine[train]'"
        ) from None
    figure = Figure(figsize=(5.2, 3.6), layout="tight")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    """The drawing as an SVG element whose texts stay texts, in whatever script."""
    import matplotlib

    stream = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "lepton"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser has the glyphs that matplotlib's own fonts lack.
        warnings.simplefilter("ignore")
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _ranking(curves: Mapping[str, Any], kind: str) -> str:
    figure, axes = _figure()
    by_support = list(curves.items())[:_MAX_DRAWN_LABELS]
    area = "average_precision" if kind == "precision_recall" else "roc_auc"
    for label, curve in by_support:
        x, y = zip(*curve[kind], strict=True)
        axes.plot(x, y, label=f"{_plain(label)} {curve[area]:.3f}", linewidth=1.4)
    names = (
        ("recall", "precision")
        if kind == "precision_recall"
        else (
            "false positives",
            "true positives",
        )
    )
    axes.set(xlabel=names[0], ylabel=names[1], xlim=(0, 1.01), ylim=(0, 1.02))
    axes.legend(fontsize=7, loc="lower left" if kind == "precision_recall" else "lower right")
    return _svg(figure)


def _calibration(bins: Sequence[Mapping[str, float]]) -> str:
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    axes.plot(
        [entry["confidence"] for entry in bins], [entry["accuracy"] for entry in bins], marker="o"
    )
    axes.set(xlabel="probability", ylabel="share that is right", xlim=(0, 1.01), ylim=(0, 1.02))
    return _svg(figure)


def _coverage(curve: Sequence[Mapping[str, float]]) -> str:
    figure, axes = _figure()
    axes.plot([entry["coverage"] for entry in curve], [entry["accuracy"] for entry in curve])
    axes.set(xlabel="share of texts answered", ylabel="accuracy of the answers", xlim=(0, 1.01))
    return _svg(figure)


def _scatter(points: Sequence[Sequence[float]]) -> str:
    figure, axes = _figure()
    actual, predicted = zip(*points, strict=True)
    axes.scatter(actual, predicted, s=6, alpha=0.5)
    ends = [min(actual), max(actual)]
    axes.plot(ends, ends, color="0.6", linewidth=1, linestyle="--")
    axes.set(xlabel="actual", ylabel="predicted")
    return _svg(figure)


def _training(table: str) -> str:
    rows = list(csv.DictReader(io.StringIO(table)))
    figure, axes = _figure()
    epochs = [float(row["epoch"]) for row in rows]
    for name in rows[0] if rows else ():
        if name not in ("epoch", "learning_rate"):
            axes.plot(epochs, [float(row[name]) for row in rows], marker=".", label=name)
    axes.set(xlabel="epoch")
    axes.legend(fontsize=7)
    return _svg(figure)


def _plain(label: str) -> str:
    """A label that matplotlib does not take for mathematics, at a length that fits."""
    return label.replace("$", "\\$")[:24]
