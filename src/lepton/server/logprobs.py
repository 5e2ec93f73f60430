"""Log probabilities as the two completion APIs shape them."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from lepton.engine import TokenChance, TokenLogprob


def chat_logprobs(entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    """The ``logprobs`` of a chat choice."""
    content = [
        {**_chance(entry), "top_logprobs": [_chance(chance) for chance in entry.top]}
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def _chance(chance: TokenChance) -> dict[str, Any]:
    return {"token": chance.token, "logprob": chance.logprob, "bytes": list(chance.bytes)}


class CompletionLogprobs:
    """The ``logprobs`` of a completion choice, whose offsets count characters from its start."""

    def __init__(self, special_token_ids: frozenset[int]) -> None:
        self._special = special_token_ids
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def shape(
        self, entries: Sequence[TokenLogprob | None], first_token: str = ""
    ) -> dict[str, Any]:
        """The next entries; None stands for the first token of a prompt, ``first_token``."""
        tokens: list[str] = []
        offsets: list[int] = []
        for entry in entries:
            tokens.append(first_token if entry is None else entry.token)
            offsets.append(self._offset)
            self._advance(entry, first_token)
        return {
            "tokens": tokens,
            "token_logprobs": [entry.logprob if entry else None for entry in entries],
            "top_logprobs": [
                {chance.token: chance.logprob for chance in (*entry.top, entry)} if entry else None
                for entry in entries
            ],
            "text_offset": offsets,
        }

    def _advance(self, entry: TokenLogprob | None, first_token: str) -> None:
        if entry is None:
            self._offset += len(first_token)
        elif entry.token_id not in self._special:
            self._offset += len(self._decoder.decode(entry.bytes))
