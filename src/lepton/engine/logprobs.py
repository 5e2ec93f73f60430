"""Log probabilities of tokens, as the reader gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lepton.engine.outputs import TokenChance, TokenLogprob
from lepton.models.executors.base import Float32Array

if TYPE_CHECKING:
    from lepton.models.tokenizer import Tokenizer


def token_logprob(
    logits: Float32Array, token_id: int, count: int, tokenizer: Tokenizer
) -> TokenLogprob:
    """Log probability of a token and of the ``count`` most likely ones, from raw logits [vocab]."""
    peak = logits.max()
    normalizer = float(peak) + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))

    def chance(token: int) -> TokenChance:
        return TokenChance(
            token_id=token,
            token=tokenizer.token_text(token),
            bytes=tokenizer.token_bytes(token),
            logprob=float(logits[token]) - normalizer,
        )

    chosen = chance(token_id)
    return TokenLogprob(
        token_id=chosen.token_id,
        token=chosen.token,
        bytes=chosen.bytes,
        logprob=chosen.logprob,
        top=tuple(chance(token) for token in most_likely(logits, count)),
    )


def most_likely(logits: Float32Array, count: int) -> list[int]:
    """The ids of the ``count`` largest logits, largest first, the lower id first among equals."""
    count = min(count, len(logits))
    if count == 0:
        return []
    smallest_kept = np.partition(logits, len(logits) - count)[-count]
    ids = np.flatnonzero(logits >= smallest_kept)
    ordered = ids[np.argsort(-logits[ids], kind="stable")]
    return [int(token) for token in ordered[:count]]
