"""The model card that a run carries (arXiv:1810.03993)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lepton.training.run import RunManifest

_TASKS = {
    "single": "one label for a text",
    "multi": "any number of labels for a text",
    "regression": "a number for a text",
}
_MAX_LABELS = 200


def model_card(
    manifest: RunManifest,
    metrics: Mapping[str, Any],
    source: str,
    counts: Mapping[str, int] | None = None,
) -> str:
    """Markdown that tells what the model does, from what, how well, and what it is not for."""
    lines = [
        f"# {manifest.full_name}",
        "",
        (
            f"Gives {_TASKS[manifest.objective]}. Method `{manifest.method}`, trained on "
            f"{manifest.num_rows:,} rows on {manifest.created} by Lepton {manifest.lepton_version}."
        ),
        "",
        "## Data",
        "",
        *([f"Source: `{source}`."] if source else []),
        f"SHA-256 of texts and labels: `{manifest.data_fingerprint}`.",
        "",
    ]
    if counts:
        lines += ["| label | rows |", "| --- | --- |"]
        shown = list(counts.items())[:_MAX_LABELS]
        lines += [f"| {_cell(label)} | {count:,} |" for label, count in shown]
        if len(counts) > _MAX_LABELS:
            lines.append(f"| … {len(counts) - _MAX_LABELS:,} more | |")
        lines.append("")
    if metrics:
        lines += [
            "## Measured",
            "",
            (
                f"On {metrics['held_out_rows']:,} rows that the measured model had not seen; "
                "choices were made on them, so a test set of its own will show a little less."
            ),
            "",
            "| measure | value | 95 % interval |",
            "| --- | --- | --- |",
        ]
        for name, number in metrics["held_out"].items():
            low, high = number.get("low"), number.get("high")
            between = "" if low is None else f"{low:.3f} to {high:.3f}"
            lines.append(f"| {name.replace('_', ' ')} | {number['value']:.3f} | {between} |")
        lines.append("")
    lines += [
        "## Limits",
        "",
        (
            "The model knows the labels and the kind of text it was trained on. Texts of another "
            "kind get a label all the same; set a threshold below which it gives none "
            "(`lepton evaluate` shows what each costs). Its probabilities were calibrated on the "
            "training data's distribution."
        ),
        "",
        "## Use",
        "",
        "```bash",
        f"lepton predict {manifest.full_name} FILE.csv --out scored.csv",
        f"lepton serve {manifest.full_name}",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
