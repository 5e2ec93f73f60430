"""Limits of one engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lepton.errors import ConfigurationError
from lepton.models.executors import ExecutorKind, KvDtype, Precision, Quantize, check_choice
from lepton.models.executors.encoder_base import Dtype

if TYPE_CHECKING:
    from lepton.models.executors.base import Executor
    from lepton.models.loader import Model

    ExecutorFactory = Callable[[Model, int], Executor]

Speculation = Literal["lookup", "draft", "off"]

_NATIVE_CHOICES = {
    "precision": Precision,
    "kv_dtype": KvDtype,
    "quantize": Quantize,
    "dtype": Dtype,
}


@dataclass(frozen=True)
class EngineConfig:
    """Limits and choices of one engine; raises ConfigurationError when one makes no sense."""

    context_length: int | None = None
    """Tokens of prompt and completion together; None takes the model's, as far as memory allows."""
    cache_memory: int | None = None
    """Bytes for the KV cache. None takes what ``max_sequences`` full contexts need, at most a
    quarter of the memory available."""
    sequence_tokens: int | None = None
    """Where ``cache_memory`` is None: room for so many tokens of each of ``max_sequences``, and for
    one full context at least. Longer sequences run as well, fewer at a time. None: full
    contexts."""
    reserved_memory: int = 0
    """Bytes of the memory available that are left to other models of this process."""
    max_sequences: int = 32
    """Completions computed together."""
    max_step_tokens: int = 512
    """Tokens in one step; longer prompts are read in several."""
    max_queue: int = 256
    """Requests that may wait; more are refused with CapacityError."""
    max_queue_seconds: float | None = None
    """Refuse a request that would probably wait longer than this; None: only ``max_queue``
    counts."""
    step_seconds: float = 0.07
    """While completions are being generated, prompts are read in pieces that keep a step near
    this duration, which bounds the gap between two tokens; where steps without prompts are short,
    nearer to 2.5 times theirs, but not below 20 ms, unless more prompts wait than there are
    completions."""
    prefix_cache: bool = True
    """Find prompts, or beginnings of them, that earlier requests have left in the cache."""
    cache_spill: Path | None = None
    """A folder for a file of blocks that have to leave the prefix cache. The file has no name and
    is gone with the process."""
    cache_spill_bytes: int = 4 * 2**30
    """Most bytes of that file."""
    speculation: Speculation = "lookup"
    """Where it pays, guess the next tokens and verify several in one step, which changes no token:
    ``lookup`` guesses from earlier text, ``draft`` asks ``draft_model``; ``off``: one token a
    step."""
    draft_model: str | Path | Model | None = None
    """A smaller model with the same vocabulary: a path, a name in the catalogue or loaded."""
    max_draft_tokens: int = 12
    """Most tokens guessed at a time for one completion."""
    threads: int = 0
    """Threads of the native executor; 0 takes what the machine or its cgroup allows."""
    precision: Precision = "exact"
    """Int8 planes of activations in products with quantized weights: ``exact`` takes two (about 16
    bits), ``fast`` a second one only where the first would round most, which computes less where
    many tokens are processed together."""
    kv_dtype: KvDtype = "bf16"
    """How keys and values are cached: ``int8`` holds nearly twice the tokens in the same memory."""
    quantize: Quantize = "none"
    """What float weights become when they are loaded; quantized ones always stay as they are."""
    dtype: Dtype = "auto"
    """Encoders alone: what states and float weights are multiplied in. ``auto`` is bfloat16 where
    the machine has instructions for it, int16 elsewhere."""
    executor: ExecutorKind | ExecutorFactory = "native"
    """By name, or a function of the model and the number of blocks."""

    def __post_init__(self) -> None:
        for name in ("max_sequences", "max_step_tokens", "max_queue", "max_draft_tokens"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("context_length", "cache_memory", "sequence_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        if self.cache_spill is not None and not self.prefix_cache:
            raise ConfigurationError("cache_spill needs the prefix cache: leave prefix_cache on")
        for name in ("max_queue_seconds", "step_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} must be above 0 seconds, not {value}")
        if self.reserved_memory < 0:
            raise ConfigurationError(
                f"reserved_memory must not be negative: {self.reserved_memory}"
            )
        check_choice("speculation", self.speculation, Speculation)
        if (self.speculation == "draft") != (self.draft_model is not None):
            raise ConfigurationError(
                f"speculation {self.speculation!r} with draft_model {self.draft_model!r}: set "
                "speculation to 'draft' and draft_model to a smaller model, or leave both out"
            )
        if self.threads < 0:
            raise ConfigurationError(f"threads must be 0 (automatic) or more, not {self.threads}")
        if self.max_step_tokens < self.max_sequences:
            raise ConfigurationError(
                f"max_step_tokens ({self.max_step_tokens}) must be at least max_sequences "
                f"({self.max_sequences}), so that each sequence can gain a token in every step"
            )
        if not callable(self.executor):
            check_choice("executor", self.executor, ExecutorKind)
        for name, choices in _NATIVE_CHOICES.items():
            value = getattr(self, name)
            check_choice(name, value, choices)
            if self.executor != "native" and value != getattr(EngineConfig, name):
                raise ConfigurationError(
                    f"{name} {value!r} is a choice of the native executor; leave it out, or leave "
                    "the executor out"
                )
