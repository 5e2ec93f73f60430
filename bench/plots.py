"""Pictures of the medians, as SVG."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from bench.models import MODELS
from bench.results import Results, in_order
from bench.roofline import speed_limit
from bench.workloads import WORKLOADS, Workload

_WORKLOADS = ("decode", "batch-16", "prefill-512")
_COLOURS = {
    "lepton exact": "#1f5fa8",
    "lepton fast": "#5aa0e6",
    "llama.cpp": "#d9772b",
    "openvino": "#7a4fa3",
    "vllm": "#3a8f5c",
    "transformers": "#8c8c8c",
}
_BAR_INCHES = 0.24


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw one picture a workload into ``folder``: engines beside each other, and the limit."""
    folder.mkdir(parents=True, exist_ok=True)
    # Without these two, the same figures would give another file each time.
    mpl.rcParams.update({"svg.hashsalt": "lepton", "svg.fonttype": "none", "font.size": 9})
    paths = []
    for name in _WORKLOADS:
        if any(sample.workload == name for sample in results.samples):
            path = folder / f"{name}.svg"
            _draw_workload(results, WORKLOADS[name], path)
            paths.append(path)
    return paths


def _draw_workload(results: Results, workload: Workload, path: Path) -> None:
    measured = (s.model for s in results.samples if s.workload == workload.name)
    models = [model for model in in_order(measured, MODELS) if not MODELS[model].sweep]
    bars = [
        (model, engine, value)
        for model in models
        for engine in _COLOURS
        if (value := results.median(model, workload.name, engine)) is not None
    ]
    height = _BAR_INCHES * (len(bars) + 2 * len(models)) + 0.8
    figure, axes = pyplot.subplots(figsize=(8, height), layout="constrained")
    position, ticks = 0.0, []
    limits = results.best_limits(results.machine["threads"])
    for model in models:
        own = [(engine, value) for name, engine, value in bars if name == model]
        limit = speed_limit(results.shapes[model], workload, limits) if limits else 1.0
        for row, (engine, value) in enumerate(own):
            share = value / limit
            axes.barh(position + row, share, color=_COLOURS[engine], label=engine)
            axes.text(share + 0.005, position + row, f"{value:,.0f}", va="center", fontsize=7)
        ticks.append((position + (len(own) - 1) / 2, MODELS[model].title))
        position += len(own) + 1
    axes.set_yticks([place for place, _ in ticks], [title for _, title in ticks])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.05)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("share of the limit; at the bars, tokens per second")
    axes.set_title(workload.title)
    axes.spines[["top", "right"]].set_visible(False)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False
    )
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
