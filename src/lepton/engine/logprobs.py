"""Log probabilities of tokens, as the reader gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lepton.engine.outputs import TokenChance, TokenLogprob

if TYPE_CHECKING:
    from lepton.models.tokenizer import Tokenizer

RowLogprobs = tuple[float, list[int], list[float]]
"""From raw logits: log probability of a token; the most likely ids, best first, and theirs."""


def token_logprob(token_id: int, row: RowLogprobs, tokenizer: Tokenizer) -> TokenLogprob:
    """A token's log probability and those of the most likely ones, with their texts."""
    logprob, top_ids, top_logprobs = row
    chosen = _chance(token_id, logprob, tokenizer)
    return TokenLogprob(
        token_id=chosen.token_id,
        token=chosen.token,
        bytes=chosen.bytes,
        logprob=chosen.logprob,
        top=tuple(
            _chance(token, chance, tokenizer)
            for token, chance in zip(top_ids, top_logprobs, strict=True)
        ),
    )


def _chance(token_id: int, logprob: float, tokenizer: Tokenizer) -> TokenChance:
    return TokenChance(
        token_id=token_id,
        token=tokenizer.token_text(token_id),
        bytes=tokenizer.token_bytes(token_id),
        logprob=logprob,
    )
