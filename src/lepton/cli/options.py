"""Options that several commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from lepton.cli.language import say
from lepton.engine import config as engine_config
from lepton.models import executors

_SAMPLING = "Sampling"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def bytes_of(text: str) -> int:
    """A number of bytes such as ``512M`` or ``4GiB``; raises typer.BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise typer.BadParameter(say("write bytes such as 512M or 4G"))
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def speculation_for(
    chosen: engine_config.Speculation, draft_model: str | None
) -> engine_config.Speculation:
    """What to speculate with: the default stands for a draft model too, where one is named."""
    default = engine_config.EngineConfig.speculation
    return "draft" if draft_model and chosen == default else chosen


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name of the catalogue, or path of a model.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Threads = Annotated[
    int, typer.Option(min=0, metavar="N", help="Threads; 0 takes what the machine allows.")
]
CacheMemory = Annotated[
    int | None,
    typer.Option(
        parser=bytes_of,
        metavar="BYTES",
        help="Memory for the KV cache, such as 4G; a quarter of what is free if not given.",
    ),
]
ContextLength = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="TOKENS",
        help="Prompt and completion together; the model's own limit if not given.",
    ),
]
Precision = Annotated[
    executors.Precision,
    typer.Option(
        help="Activations in two int8 planes (exact) or, computing less, mostly in one (fast)."
    ),
]
KvDtype = Annotated[
    executors.KvDtype,
    typer.Option(help="How keys and values are cached; int8 holds nearly twice the tokens."),
]
Quantize = Annotated[
    executors.Quantize,
    typer.Option(help="Make float weights smaller while loading; others stay as they are."),
]
Speculation = Annotated[
    engine_config.Speculation,
    typer.Option(
        help="Guess tokens from earlier text and verify them, where that is faster (lookup)."
    ),
]
DraftModel = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Smaller model of the same vocabulary that guesses tokens, instead of earlier text.",
    ),
]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="System prompt.")]

MaxTokens = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Most tokens to generate.", rich_help_panel=_SAMPLING),
]
Temperature = Annotated[
    float,
    typer.Option(min=0.0, help="0 always takes the likeliest token.", rich_help_panel=_SAMPLING),
]
TopK = Annotated[
    int,
    typer.Option(min=0, help="Keep the K likeliest tokens; 0: all.", rich_help_panel=_SAMPLING),
]
TopP = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Keep the likeliest tokens up to this share of probability.",
        rich_help_panel=_SAMPLING,
    ),
]
MinP = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Drop tokens below this share of the likeliest one's probability.",
        rich_help_panel=_SAMPLING,
    ),
]
RepetitionPenalty = Annotated[
    float,
    typer.Option(
        help="Above 1: make tokens that occurred before less likely.", rich_help_panel=_SAMPLING
    ),
]
PresencePenalty = Annotated[
    float,
    typer.Option(
        min=-2.0,
        max=2.0,
        help="Taken once from every token generated before.",
        rich_help_panel=_SAMPLING,
    ),
]
FrequencyPenalty = Annotated[
    float,
    typer.Option(
        min=-2.0,
        max=2.0,
        help="Taken for each time that a token was generated.",
        rich_help_panel=_SAMPLING,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="Makes sampling repeatable.", rich_help_panel=_SAMPLING),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT", help="End before this text; may be repeated.", rich_help_panel=_SAMPLING
    ),
]
