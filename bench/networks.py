"""The networks trained from nothing, as they run (numpy) and as torch would run them.

Weights are random: the work is the same whatever they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from bench.corpora import shop_questions
from lepton.training.config import ARCHITECTURES, Method, TrainingConfig
from lepton.training.networks.scorer import NetworkScorer, in_batches
from lepton.training.networks.stages import build
from lepton.training.networks.tokens import Ids, NetworkTokenizer
from lepton.training.scorers import Floats

_QUESTIONS_A_LONG_TEXT = 12
_LABELS = 24
_ROUNDS = 5

Score = Callable[[Sequence[str]], Floats]


def run_networks(tell: Callable[[str], object]) -> None:
    """Print texts a second of both, on questions and on texts of several questions."""
    short = shop_questions()
    joined = range(0, len(short), _QUESTIONS_A_LONG_TEXT)
    long = [" ".join(short[start : start + _QUESTIONS_A_LONG_TEXT]) for start in joined]
    tell(f"{'network':<12} {'tokens':>6} {'numpy texts/s':>14} {'torch texts/s':>14} {'ratio':>6}")
    for method in ARCHITECTURES:
        lepton, torch, tokenizer = _executors(method, short)
        for texts in (short, long):
            np.testing.assert_allclose(lepton(texts), torch(texts), atol=1e-4)
            ours, theirs = _rates([lepton, torch], texts)
            tokens = float(np.mean([len(row) for row in tokenizer.encode(texts)]))
            tell(
                f"{method:<12} {tokens:>6.0f} {ours:>14,.0f} {theirs:>14,.0f} {ours / theirs:>6.2f}"
            )


def _executors(method: Method, texts: Sequence[str]) -> tuple[Score, Score, NetworkTokenizer]:
    import torch

    from lepton.training.networks.torch_executor import TorchNetwork

    config = TrainingConfig(method=method).resolved()
    tokenizer = NetworkTokenizer.train(
        texts, config.vocabulary_size, config.max_tokens or 1, whole_words=False
    )
    torch.manual_seed(0)
    network = build(method, config, tokenizer.size, _LABELS)
    module = TorchNetwork(network, config.dropout, None).eval()
    scorer = NetworkScorer(method, config, tokenizer, module.exported())

    def forward(ids: Ids, lengths: Ids) -> Floats:
        with torch.inference_mode():
            found: Floats = module(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
        return found

    def by_torch(texts: Sequence[str]) -> Floats:
        return in_batches(tokenizer.encode(texts), _LABELS, forward)

    return scorer.scores, by_torch, tokenizer


def _rates(scorers: Sequence[Score], texts: Sequence[str]) -> list[float]:
    """Texts a second of each: the best of interleaved rounds."""
    best = [float("inf")] * len(scorers)
    for _ in range(_ROUNDS):
        for index, score in enumerate(scorers):
            start = time.perf_counter()
            score(texts)
            best[index] = min(best[index], time.perf_counter() - start)
    return [len(texts) / seconds for seconds in best]
