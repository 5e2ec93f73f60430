"""An encoder as ``lepton models show`` describes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lepton.cli.console import size
from lepton.cli.language import say
from lepton.models.encoder_summary import EncoderSummary


def encoder_rows(summary: EncoderSummary) -> list[tuple[str, str]]:
    """Labels and values for people."""
    prompts = ", ".join(f"{name}: {text!r}" for name, text in summary.prompts.items())
    return [
        ("File", str(summary.path)),
        ("Architecture", summary.architecture),
        ("Task", summary.task),
        ("Parameters", f"{summary.parameters:,}"),
        ("Types", ", ".join(f"{kind} × {count}" for kind, count in summary.types.items())),
        ("Layers", f"{summary.layers:,}"),
        ("Dimensions", f"{summary.dimensions:,}"),
        (
            "Context",
            say("{tokens:,} of {most:,}", tokens=summary.max_tokens, most=summary.context_length),
        ),
        ("Vocabulary", f"{summary.vocabulary:,}"),
        ("Pooling", summary.pooling),
        ("Length one", say("yes") if summary.normalize else say("no")),
        ("Prompts", prompts or say("none")),
        ("Labels", ", ".join(summary.labels) or say("none")),
        (
            "Weights",
            say("{size} in {type}", size=size(summary.weights), type=summary.product_type),
        ),
    ]


def encoder_fields(summary: EncoderSummary) -> dict[str, Any]:
    """The same for programs."""
    fields = asdict(summary)
    return fields | {
        "path": str(summary.path),
        "labels": list(summary.labels),
        "weights_bytes": fields.pop("weights"),
    }
