"""What guesses at the next tokens of sequences, whatever it is, has to offer."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Protocol

from lepton.engine.sequence import Sequence


@dataclass
class Proposal:
    """Tokens that may come next in a sequence, and how sure their source is of each."""

    tokens: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    """One class per token, a place in the source's ``expected``: shares of right tokens are kept
    by class."""


class ProposalSource(Protocol):
    """Proposes tokens; they are only ever verified, so that whatever it does changes no result.

    Used by the step loop only. What it keeps of a sequence it makes when it is first asked.
    """

    @property
    def expected(self) -> tuple[float, ...]:
        """The share of right tokens of each class, before any were seen."""

    def seconds(self, num_sequences: int) -> float:
        """What one more token for each of so many sequences takes; 0: nothing worth counting."""

    def catch_up_seconds(self, sequence: Sequence) -> float:
        """What it takes before the first token for a sequence, to read what it has not read yet."""

    def propose(self, sequences: SequenceOf[Sequence], counts: SequenceOf[int]) -> list[Proposal]:
        """At most ``counts[i]`` tokens that may follow sequence i, which is decoding."""

    def forget(self, sequence: Sequence, *, trusted: bool = True) -> None:
        """Let go of what is kept of a sequence; unless ``trusted`` it is used for no other."""

    def clear(self) -> None:
        """Let go of everything."""

    def close(self) -> None:
        """Release what the source has taken."""
