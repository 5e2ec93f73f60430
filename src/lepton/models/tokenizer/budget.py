"""How much a chat template may do in one rendering."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateRuntimeError
from jinja2.utils import Namespace

MAX_INTEGER_BITS = 1024


@dataclass(frozen=True)
class RenderLimits:
    """Bounds on one rendering.

    Attributes:
        characters: length of the output, and size of any one value (characters and elements,
            counted as if written out).
        total_characters: size of all values created on the way, together.
        seconds: processor time of the rendering thread, so that a busy machine is no excuse.
    """

    characters: int = 4_194_304
    total_characters: int = 67_108_864
    seconds: float = 1.0


class LimitExceededError(TemplateRuntimeError):
    """The template went over one of its limits."""


class RenderBudget:
    """What is left of the limits during one rendering.

    Sizes are estimated before an operation is carried out: one operation is never larger than the
    limits allow, and between any two the clock is looked at.
    """

    def __init__(self, limits: RenderLimits) -> None:
        self._limits = limits
        self._remaining = limits.total_characters
        self._deadline = time.thread_time() + limits.seconds

    def tick(self) -> None:
        """Look at the clock."""
        if time.thread_time() > self._deadline:
            raise LimitExceededError(f"it ran for more than {self._limits.seconds:g} s")

    def allow(self, size: int) -> None:
        """Let a value of ``size`` characters or elements come into being."""
        if size > self._limits.characters:
            raise LimitExceededError(
                f"it made a text or list larger than {self._limits.characters:,} characters"
            )

    def charge(self, value: Any) -> Any:
        """Count a new value against the total; return it."""
        if isinstance(value, int):
            if value.bit_length() > MAX_INTEGER_BITS:
                raise LimitExceededError(f"it made a number of more than {MAX_INTEGER_BITS} bits")
        elif isinstance(value, (str, bytes, list, tuple, dict, set)):
            self.allow(len(value))
            self._remaining -= len(value)
            if self._remaining < 0:
                raise LimitExceededError(
                    f"its texts and lists add up to more than "
                    f"{self._limits.total_characters:,} characters"
                )
        return value

    def measure(self, *values: Any) -> int:
        """Size of values written out in full, shared and nested parts counted each time they occur.

        Raises LimitExceededError rather than walk further than the limit.
        """
        size = 0
        pending = list(values)
        steps = 0
        while pending:
            value = pending.pop()
            steps += 1
            if steps % 1024 == 0:
                self.tick()
            if isinstance(value, (str, bytes)):
                size += len(value)
                continue
            size += 1
            if isinstance(value, Mapping):
                pending.extend(value.keys())
                pending.extend(value.values())
            elif isinstance(value, (Sequence, Set, ValuesView)) and not isinstance(value, range):
                pending.extend(value)
            elif isinstance(value, Namespace):
                pending.extend(object.__getattribute__(value, "_Namespace__attrs").values())
            self.allow(size + len(pending))
        self.allow(size)
        return size
