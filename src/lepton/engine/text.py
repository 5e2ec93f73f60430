"""From tokens to the text a reader may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lepton.models.tokenizer import Detokenizer


class StopMatcher:
    """Passes text on until the first stop string is complete.

    Text that may yet become a stop string is held back, so the result does not depend on how the
    text is cut into pieces. Of several stop strings the first to be complete counts; of those
    complete at the same place, the longest.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """The text that is certain to precede any stop string."""
        if not self._stops:
            return text
        if self.stopped:
            return ""
        text = self._held + text
        matches = [
            (start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0
        ]
        if matches:
            self.stopped = True
            self._held = ""
            _, start = min(matches)
            return text[:start]
        held = self._unsettled(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """The text held back, when no more will come."""
        held, self._held = self._held, ""
        return held

    def _unsettled(self, text: str) -> int:
        """Length of the longest end of ``text`` that a stop string starts with."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            end = text[len(text) - length :]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0


class TextStream:
    """The text of one completion, token by token."""

    def __init__(self, detokenizer: Detokenizer, stops: tuple[str, ...]) -> None:
        self._detokenizer = detokenizer
        self._matcher = StopMatcher(stops)

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._matcher.stopped

    def add(self, token_id: int, *, match_stops: bool = True) -> str:
        """The text that this token settles; without ``match_stops`` stop strings may pass."""
        text = self._detokenizer.add(token_id)
        return self._matcher.add(text) if match_stops else text

    def flush(self) -> str:
        """What was held back, once the last token is in."""
        if self.stopped:
            return ""
        return self._matcher.add(self._detokenizer.flush()) + self._matcher.flush()
