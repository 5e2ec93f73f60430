"""An encoder's work on the inputs of one call."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from lepton.engine.encoder_inputs import Window
from lepton.models.executors.base import Float32Array


class PooledJob:
    """Windows of ``count`` inputs on their way through the executor, longest first.

    The state of an input is the mean of those of its windows, by their weights.
    """

    def __init__(self, inputs: Sequence[Window], count: int, width: int) -> None:
        self.count = count
        self.num_tokens = sum(len(window.token_ids) for window in inputs)
        self.pending = deque(sorted(inputs, key=lambda window: -len(window.token_ids)))
        self._sums = np.zeros((count, width), np.float32)
        self._weights = np.zeros((count, 1), np.float32)
        self._whole = len(inputs) == count
        """Whether every input is one window, whose state is the input's."""

    def take(self, tokens: int) -> list[Window]:
        """The next windows, as many as have so many tokens together, at least one."""
        chunk: list[Window] = []
        while self.pending and (not chunk or tokens >= len(self.pending[0].token_ids)):
            chunk.append(self.pending.popleft())
            tokens -= len(chunk[-1].token_ids)
        return chunk

    def add(self, chunk: Sequence[Window], states: Float32Array) -> None:
        """Take in the states [windows, width] of windows that were taken."""
        owners = [window.owner for window in chunk]
        if self._whole:
            self._sums[owners] = states
            return
        shares = np.array([[window.weight] for window in chunk], np.float32)
        np.add.at(self._sums, owners, states * shares)
        np.add.at(self._weights, owners, shares)

    def states(self) -> Float32Array:
        """The state of each input [count, width], once nothing is pending."""
        if self._whole:
            return self._sums
        mean: Float32Array = self._sums / self._weights
        return mean
