"""The file in which llama-perplexity takes the logits that it compares a model with.

Layout, little-endian: magic, int32 window, vocabulary and number of windows, int32 tokens, then for
each counted position a float32 step and minimum, followed by its log-probabilities as uint16 in
such steps above the minimum. Those 16 below the largest and less share the value 0, and the program
leaves them out (https://github.com/ggml-org/llama.cpp/blob/master/tools/perplexity/perplexity.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from bench.peers import PeerError, llama_tools

_RANGE = 16.0
_STEPS = 65_535


class LogitsFile:
    """Writes the logits of windows of equal length, one window after another."""

    def __init__(self, path: Path, windows: Sequence[Sequence[int]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._windows = np.array(windows, "<i4")
        self._file = path.open("wb")
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, logits: npt.NDArray[np.float32]) -> None:
        """Add a window's logits [counted positions, vocabulary]."""
        if not self._started:
            count, length = self._windows.shape
            sizes = np.array([length, logits.shape[1], count], "<i4")
            self._file.write(b"_logits_" + sizes.tobytes() + self._windows.tobytes())
            self._started = True
        for row in logits:
            self._file.write(_coded(row))


def _coded(logits: npt.NDArray[np.float32]) -> bytes:
    largest = logits.max()
    smallest = max(logits.min(), largest - np.float32(_RANGE))
    normaliser = np.log(np.exp((logits - largest).astype(np.float64)).sum())
    step = (largest - smallest) / np.float32(_STEPS)
    head = np.array([step, smallest - largest - normaliser], "<f4")
    codes = np.zeros(len(logits) + len(logits) % 2, "<u2")
    codes[: len(logits)] = np.rint(np.maximum(logits - smallest, 0) / step)
    return head.tobytes() + codes.tobytes()


@dataclass(frozen=True)
class Comparison:
    """What llama-perplexity says of a model beside the logits of a file."""

    agreement: float
    divergence: float
    perplexity: float


def compare(model: Path, logits: Path, window: int, threads: int) -> Comparison:
    """Run llama.cpp's model on the tokens of the file; raises PeerError."""
    llama_tools.prepare()
    output = llama_tools.run(
        "llama-perplexity",
        *("-m", model, "-t", threads, "-c", window, "-b", window),
        *("--kl-divergence", "--kl-divergence-base", logits),
    )
    return Comparison(
        agreement=_figure(output, r"Same top p:\s+([\d.]+)") / 100,
        divergence=_figure(output, r"Mean\s+KLD:\s+(-?[\d.e-]+)"),
        perplexity=_figure(output, r"Mean PPL\(Q\)\s*:\s+([\d.]+)"),
    )


def _figure(output: str, pattern: str) -> float:
    match = re.search(pattern, output)
    if match is None:
        raise PeerError(f"llama-perplexity printed nothing that matches {pattern!r}")
    return float(match.group(1))
