"""The file for llama-perplexity holds log-probabilities in 65,535 steps."""

from __future__ import annotations

import numpy as np
from bench.peers.llama_logits import LogitsFile


def test_log_probabilities_come_back(tmp_path) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (3, 7)).astype(np.float32)
    logits[0, 2] = logits[0].max() - 40
    path = tmp_path / "logits"
    with LogitsFile(path, [[1, 2, 3, 4], [5, 6, 7, 8]]) as file:
        file.write(logits[:1])
        file.write(logits[1:])
    content = path.read_bytes()
    assert content[:8] == b"_logits_"
    assert np.frombuffer(content, "<i4", 3, 8).tolist() == [4, 7, 2]
    assert np.frombuffer(content, "<i4", 8, 20).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    rows = np.frombuffer(content[52:], np.uint8).reshape(3, 8 + 2 * 8)
    steps, smallest = (rows[:, a : a + 4].copy().view("<f4") for a in (0, 4))
    found = smallest + steps * rows[:, 8:].copy().view("<u2")[:, :7]
    expected = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
    near = logits > logits.max(1, keepdims=True) - 16
    assert np.abs(found - expected)[near].max() < 16 / 65_535
    assert (found[~near] <= -16).all()
