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
_CLEAR = (0.3, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95)
_AMBIGUOUS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.85)
"""Shares of right tokens by class, and where the same tokens went on otherwise another time."""


class LookupSource:
    """Proposes what the tokens of a sequence themselves suggest; see `ProposalSource`."""

    expected = _CLEAR + _AMBIGUOUS

    def __init__(self) -> None:
        self._lookups: dict[Sequence, PromptLookup] = {}

    def seconds(self, num_sequences: int) -> float:  # noqa: ARG002
        """Nothing worth counting."""
        return 0.0

    def catch_up_seconds(self, sequence: Sequence) -> float:  # noqa: ARG002
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
        clear = lookup.num_clear(sequence.token_ids, len(tokens))
        kinds = [
            _CLASS_OF[min(lookup.num_matching + offset, MOST_MATCHING)]
            + (len(_CLEAR) if offset >= clear else 0)
            for offset in range(len(tokens))
        ]
        return Proposal(tokens, kinds)


class PromptLookup:
    """The tokens of one sequence, searched for the latest place that ends as the sequence does.

    Prompt lookup decoding: https://github.com/apoorvumang/prompt-lookup-decoding
    """

    def __init__(self) -> None:
        self._tokens = bytearray()
        self._source: int | None = None
        """Where the token stands that may come next."""
        self._other: int | None = None
        """The same, when the last tokens came the time before."""
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
            other = self._other
            if other is not None:
                goes_on = token_ids[other : other + len(new)] == new
                self._other = other + len(new) if goes_on else None
            return
        self._source = self._other = None
        for length in _LENGTHS:
            self._source = self._search(length, len(self._tokens) - 1)
            if self._source is not None:
                self._other = self._search(length, self._source * _WIDTH - 1)
                break
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

    def num_clear(self, token_ids: SequenceOf[int], count: int) -> int:
        """How many of ``count`` tokens of a draft followed the time before as well, if ever."""
        if self._source is None or self._other is None:
            return count
        pairs = zip(
            token_ids[self._source : self._source + count],
            token_ids[self._other : self._other + count],
            strict=False,
        )
        return next((place for place, pair in enumerate(pairs) if pair[0] != pair[1]), count)

    def _search(self, length: int, end: int) -> int | None:
        """The place after the last ``length`` tokens where they occur last before byte ``end``."""
        pattern = self._tokens[-length * _WIDTH :]
        if len(pattern) < length * _WIDTH:
            return None
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
