"""Guesses at the next tokens of a sequence: what followed when its last ones came before."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as SequenceOf

from lepton.engine.proposals import Proposal
from lepton.engine.sequence import Sequence

_WIDTH = 4
"""Bytes of a token."""
_LENGTHS = (5, 2, 1)
"""Tokens that have to be the same again; the longest match is looked for first."""
MOST_MATCHING = 32
"""Matches are measured up to this length."""
_CLASS_OF = [0, 0, 1, 2] + [3] * 2 + [4] * 3 + [5] * 8 + [6] * (MOST_MATCHING - 16)
"""Classes of matches by their length: the longer, the likelier that the next token is right."""


class LookupSource:
    """Proposes what the tokens of a sequence themselves suggest; see `ProposalSource`."""

    expected = (0.15, 0.3, 0.45, 0.6, 0.75, 0.88, 0.93)

    def __init__(self) -> None:
        self._lookups: dict[Sequence, PromptLookup] = {}

    def seconds(self, num_sequences: int) -> float:  # noqa: ARG002
        """Nothing worth counting."""
        return 0.0

    def propose(self, sequences: SequenceOf[Sequence], counts: SequenceOf[int]) -> list[Proposal]:
        """What followed the last tokens of each sequence when they came before."""
        return [self._one(*each) for each in zip(sequences, counts, strict=True)]

    def forget(self, sequence: Sequence, *, trusted: bool = True) -> None:  # noqa: ARG002
        """Let go of a sequence."""
        self._lookups.pop(sequence, None)

    def clear(self) -> None:
        """Let go of all sequences."""
        self._lookups.clear()

    def close(self) -> None:
        """Nothing to release."""

    def _one(self, sequence: Sequence, count: int) -> Proposal:
        lookup = self._lookups.setdefault(sequence, PromptLookup())
        lookup.update(sequence.token_ids)
        tokens = lookup.draft(sequence.token_ids, count)
        matching = range(lookup.num_matching, lookup.num_matching + len(tokens))
        return Proposal(tokens, [_CLASS_OF[min(length, MOST_MATCHING)] for length in matching])


class PromptLookup:
    """The tokens of one sequence, searched for the latest place that ends as the sequence does.

    Prompt lookup decoding: https://github.com/apoorvumang/prompt-lookup-decoding
    """

    def __init__(self) -> None:
        self._tokens = bytearray()
        self._source: int | None = None
        """Where the token stands that may come next."""
        self.num_matching = 0
        """How many tokens before the source equal the last ones of the sequence."""

    def update(self, token_ids: SequenceOf[int]) -> None:
        """Take in the tokens that a sequence has gained; ``token_ids`` are all it has."""
        known = len(self._tokens) // _WIDTH
        new = token_ids[known:]
        self._tokens += array("i", new).tobytes()
        source = self._source
        if source is not None and token_ids[source : source + len(new)] == new:
            self._source = source + len(new)
            self.num_matching = min(MOST_MATCHING, self.num_matching + len(new))
            return
        self._source = next(filter(None, map(self._search, _LENGTHS)), None)
        self.num_matching = 0 if self._source is None else self._count(token_ids, self._source)

    def draft(self, token_ids: SequenceOf[int], count: int) -> list[int]:
        """The ``count`` tokens that may come next, or none; a loop goes on as it began."""
        if self._source is None:
            return []
        draft = list(token_ids[self._source : self._source + count])
        period = len(token_ids) - self._source
        while len(draft) < count:
            draft.append(draft[len(draft) - period])
        return draft

    def _search(self, length: int) -> int | None:
        """The place after the latest earlier occurrence of the last ``length`` tokens."""
        pattern = self._tokens[-length * _WIDTH :]
        if len(pattern) < length * _WIDTH:
            return None
        end = len(self._tokens) - 1
        while (start := self._tokens.rfind(pattern, 0, end)) >= 0:
            if start % _WIDTH == 0:
                return start // _WIDTH + length
            end = start + len(pattern) - 1
        return None

    @staticmethod
    def _count(token_ids: SequenceOf[int], source: int) -> int:
        matching = 0
        while (
            matching < min(MOST_MATCHING, source)
            and token_ids[source - 1 - matching] == token_ids[-1 - matching]
        ):
            matching += 1
        return matching
