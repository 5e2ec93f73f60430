"""Log probabilities of tokens, as the reader gets them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from lepton.engine.outputs import TokenChance, TokenLogprob

if TYPE_CHECKING:
    from lepton.models.tokenizer import Tokenizer

RowLogprobs = tuple[float, list[int], list[float]]
"""From raw logits: log probability of a token; the most likely ids, best first, and theirs."""


class TopChances(Sequence[TokenChance]):
    """The most likely tokens at one place, best first.

    Twelve bytes each until they are looked at: an answer may have twenty of them for every token.
    """

    __slots__ = ("_ids", "_logprobs", "_tokenizer")

    def __init__(
        self, token_ids: Sequence[int], logprobs: Sequence[float], tokenizer: Tokenizer
    ) -> None:
        self._ids = array("i", token_ids)
        self._logprobs = array("d", logprobs)
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> TokenChance: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[TokenChance, ...]: ...
    def __getitem__(self, place: int | slice) -> TokenChance | tuple[TokenChance, ...]:
        if isinstance(place, slice):
            return tuple(self[index] for index in range(*place.indices(len(self))))
        token_id = self._ids[place]
        return TokenChance(
            token_id=token_id,
            token=self._tokenizer.token_text(token_id),
            bytes=self._tokenizer.token_bytes(token_id),
            logprob=self._logprobs[place],
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[type[tuple[Any, ...]], tuple[list[TokenChance]]]:
        """Copies and pickles are plain tuples, without the tokenizer."""
        return tuple, (list(self),)


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
