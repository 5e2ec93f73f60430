"""What is asked of encoders, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from lepton.engine.encoder_inputs import LongTexts
from lepton.errors import RequestError


@dataclass(frozen=True)
class EmbedOptions:
    """How texts are embedded; what is None follows the model's own files."""

    prompt_name: str | None = None
    """One of the model's prompts, put before each text; "": none. Token ids get none."""
    dimensions: int | None = None
    """Leading dimensions to keep (arXiv:2205.13147), for models trained to be cut."""
    normalize: bool | None = None
    """Whether vectors have length one."""
    long_texts: LongTexts = "window"
    prompt: str | None = None
    """Text to put before each text, instead of one of the model's prompts."""

    def __post_init__(self) -> None:
        if self.long_texts not in get_args(LongTexts):
            raise RequestError(
                f"long_texts must be one of {', '.join(get_args(LongTexts))}, not "
                f"{self.long_texts!r:.80}",
                param="long_texts",
            )


@dataclass(frozen=True)
class RankedDocument:
    """A document's place in the list that was given, and how well it answers the query."""

    index: int
    score: float


@dataclass(frozen=True)
class TaggedToken:
    """A token of a text, characters ``start`` to ``end`` (exclusive), with its likeliest label."""

    start: int
    end: int
    label: str
    score: float
