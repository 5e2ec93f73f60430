"""How the tokens of one request are chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lepton.errors import RequestError

MAX_COMPLETIONS = 128
"""Upper limit of ``n``, as in the OpenAI API."""

MAX_LOGPROBS = 20
"""Upper limit of ``logprobs``, as in the OpenAI API."""


@dataclass(frozen=True)
class SamplingParams:
    """Settings of one request, checked when made.

    Applied in this order: repetition, presence and frequency penalties, temperature, top_k, top_p,
    min_p. Raises RequestError naming the field when a value is out of its range.

    >>> SamplingParams(temperature=0, max_tokens=16).greedy
    True
    """

    max_tokens: int | None = None
    """Most tokens to generate; None means up to the context length. 0 only reads the prompt."""
    min_tokens: int = 0
    """End-of-sequence, stop ids and stop strings are ignored before this many tokens."""
    temperature: float = 1.0
    """0 takes the most likely token (the lowest id among equals)."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set with this much probability, arXiv:1904.09751."""
    min_p: float = 0.0
    """Drop tokens less likely than this share of the most likely one, arXiv:2407.01082."""
    repetition_penalty: float = 1.0
    """Over prompt and completion, arXiv:1909.05858; 1 is off."""
    presence_penalty: float = 0.0
    """Subtracted once from every token already generated."""
    frequency_penalty: float = 0.0
    """Subtracted for each time a token was generated."""
    seed: int | None = None
    """Same seed, prompt and settings give the same completion, whatever else runs beside it."""
    stop: tuple[str, ...] = ()
    """Generation ends before the first of these strings to be completed; none is ever returned."""
    stop_token_ids: tuple[int, ...] = ()
    """Generation ends after one of these tokens; its text is not returned."""
    ignore_eos: bool = False
    logprobs: int | None = None
    """None: no log probabilities; k: of the chosen token and of the k most likely ones. They are
    taken from the model's own logits, before penalties, temperature and filters."""
    n: int = 1
    """Completions for the prompt; completion i draws from its own random stream (seed, i)."""

    def __post_init__(self) -> None:
        for name in ("stop", "stop_token_ids"):
            value = getattr(self, name)
            listed = (value,) if isinstance(value, (str, int)) else tuple(value or ())
            object.__setattr__(self, name, listed)
        self._whole_number("max_tokens", 0, optional=True)
        self._whole_number("min_tokens", 0)
        self._whole_number("top_k", 0)
        self._whole_number("seed", -(2**63), 2**64 - 1, optional=True)
        self._whole_number("logprobs", 0, MAX_LOGPROBS, optional=True)
        self._whole_number("n", 1, MAX_COMPLETIONS)
        self._number("temperature", 0.0, math.inf)
        self._number("top_p", 0.0, 1.0)
        self._number("min_p", 0.0, 1.0)
        self._number("repetition_penalty", 0.01, 100.0)
        self._number("presence_penalty", -2.0, 2.0)
        self._number("frequency_penalty", -2.0, 2.0)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(
                f"min_tokens ({self.min_tokens}) is above max_tokens ({self.max_tokens})",
                param="min_tokens",
            )
        if not all(isinstance(text, str) and text for text in self.stop):
            raise RequestError("stop must hold strings of at least one character", param="stop")
        if not all(_is_whole(token) and token >= 0 for token in self.stop_token_ids):
            raise RequestError("stop_token_ids must hold token ids", param="stop_token_ids")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0

    @property
    def penalized(self) -> bool:
        """Whether any penalty changes the logits."""
        return (
            self.repetition_penalty != 1
            or self.presence_penalty != 0
            or self.frequency_penalty != 0
        )

    def _whole_number(
        self, name: str, low: int, high: float = math.inf, *, optional: bool = False
    ) -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        if not _is_whole(value) or not low <= value <= high:
            raise RequestError(
                f"{name} must be a whole number {_range(low, high)}, not {_shown(value)}",
                param=name,
            )

    def _number(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        valid = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not valid or not math.isfinite(value) or not low <= value <= high:
            raise RequestError(
                f"{name} must be a number {_range(low, high)}, not {_shown(value)}", param=name
            )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _range(low: float, high: float) -> str:
    return f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"
