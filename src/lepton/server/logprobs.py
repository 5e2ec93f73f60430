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

    def shape(self, entries: Sequence[TokenChance]) -> dict[str, Any]:
        """The next entries; the first token of a prompt is one without a log probability."""
        offsets: list[int] = []
        for entry in entries:
            offsets.append(self._offset)
            if entry.token_id not in self._special:
                self._offset += len(self._decoder.decode(entry.bytes))
        known = [entry if isinstance(entry, TokenLogprob) else None for entry in entries]
        return {
            "tokens": [entry.token for entry in entries],
            "token_logprobs": [entry.logprob if entry else None for entry in known],
            "top_logprobs": [
                {chance.token: chance.logprob for chance in (*entry.top, entry)} if entry else None
                for entry in known
            ],
            "text_offset": offsets,
        }
