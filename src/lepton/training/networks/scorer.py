"""A trained text network at work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lepton.errors import ConfigurationError, ModelFormatError
from lepton.training.config import ARCHITECTURES, Method, TrainingConfig
from lepton.training.networks.numpy_executor import Weights, run
from lepton.training.networks.stages import build
from lepton.training.networks.tokens import Ids, NetworkTokenizer, padded
from lepton.training.run import WEIGHTS, read_tensors, write_tensors
from lepton.training.scorers import Floats

_TOKENS_AT_ONCE = 2048
"""Few enough for the states of a batch to stay in the cache of a processor."""
_TEXTS_AT_ONCE = 256
_SIZES = ("max_tokens", "width", "heads", "layers", "feed_forward")


@dataclass(frozen=True)
class NetworkScorer:
    """Tokenizer, stages and weights."""

    method: Method
    config: TrainingConfig
    tokenizer: NetworkTokenizer
    weights: Weights

    def scores(self, texts: Sequence[str]) -> Floats:
        """Float32 [texts, outputs]."""
        outputs = len(self.weights["head_bias"])
        network = build(self.method, self.config, self.tokenizer.size, outputs)

        def forward(ids: Ids, lengths: Ids) -> Floats:
            return run(network, self.weights, ids, lengths)

        return in_batches(self.tokenizer.encode(texts), outputs, forward)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write tokenizer and weights; the result is the manifest's ``model``."""
        self.tokenizer.save(folder)
        write_tensors(folder / WEIGHTS, dict(self.weights))
        sizes = {name: getattr(self.config, name) for name in _SIZES}
        return {
            "architecture": self.method,
            "whole_words": self.tokenizer.whole_words,
            **sizes,
        }

    @classmethod
    def load(cls, folder: Path, model: dict[str, Any], num_outputs: int) -> NetworkScorer:
        """Read what `save` wrote; raises ModelFormatError where it does not fit together."""
        try:
            method = model["architecture"]
            if method not in ARCHITECTURES:
                raise ValueError(f"architecture {method!r:.80} is not known")
            sizes: dict[str, Any] = {name: int(model[name]) for name in _SIZES}
            config = TrainingConfig(method=method, **sizes)
            whole_words = bool(model["whole_words"])
        except (KeyError, TypeError, ValueError, ConfigurationError) as error:
            raise ModelFormatError(f"the network is not described: {error}", file=folder) from None
        tokenizer = NetworkTokenizer.load(folder, sizes["max_tokens"], whole_words)
        network = build(method, config, tokenizer.size, num_outputs)
        weights = read_tensors(folder / WEIGHTS, network.shapes)
        return cls(method, config, tokenizer, weights)


def in_batches(
    rows: Sequence[Sequence[int]], outputs: int, forward: Callable[[Ids, Ids], Floats]
) -> Floats:
    """Scores float32 [rows, outputs] of token ids, those of like length together.

    ``forward`` takes padded ids [texts, tokens] and lengths [texts] and gives [texts, outputs].
    """
    result = np.zeros((len(rows), outputs), np.float32)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    start = 0
    while start < len(order):
        # The longest of a batch decides how many fit.
        stop = start + 1
        while (
            stop < len(order)
            and stop - start < _TEXTS_AT_ONCE
            and (stop + 1 - start) * len(rows[order[stop]]) <= _TOKENS_AT_ONCE
        ):
            stop += 1
        batch = order[start:stop]
        result[batch] = forward(*padded([rows[index] for index in batch]))
        start = stop
    return result
