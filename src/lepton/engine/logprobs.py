"""Log probabilities of tokens, as the reader gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lepton.engine.outputs import TokenLogprob, TopChances

if TYPE_CHECKING:
    from lepton.models.tokenizer import Tokenizer

RowLogprobs = tuple[float, list[int], list[float]]
"""From raw logits: log probability of a token; the most likely ids, best first, and theirs."""


def token_logprob(token_id: int, row: RowLogprobs, tokenizer: Tokenizer) -> TokenLogprob:
    """A token's log probability and those of the most likely ones, with their texts."""
    logprob, top_ids, top_logprobs = row
    return TokenLogprob(
        token_id=token_id,
        token=tokenizer.token_text(token_id),
        bytes=tokenizer.token_bytes(token_id),
        logprob=logprob,
        top=TopChances(top_ids, top_logprobs, tokenizer) if top_ids else (),
    )
