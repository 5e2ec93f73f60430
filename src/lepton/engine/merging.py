"""Deltas put back together."""

from __future__ import annotations

from dataclasses import replace

from lepton.engine.outputs import CompletionOutput, OutputDelta, RequestOutput, TokenLogprob, Usage


class DeltaMerger:
    """Collects successive deltas of one completion into a single one."""

    def __init__(self) -> None:
        self._last: OutputDelta | None = None
        self._text: list[str] = []
        self._token_ids: list[int] = []
        self._produced: list[float] = []
        self._logprobs: list[TokenLogprob] | None = None
        self._first: OutputDelta | None = None

    def add(self, delta: OutputDelta) -> None:
        """Take in the next delta."""
        self._first = self._first or delta
        self._last = delta
        self._text.append(delta.text)
        self._token_ids += delta.token_ids
        self._produced += delta.produced
        if delta.logprobs is not None:
            self._logprobs = self._logprobs or []
            self._logprobs += delta.logprobs

    def merged(self) -> OutputDelta:
        """All of them as one; at least one must have been added."""
        if self._first is None or self._last is None:
            raise ValueError("there is nothing to merge")
        if self._first is self._last:
            return self._last
        return replace(
            self._last,
            text="".join(self._text),
            token_ids=tuple(self._token_ids),
            produced=tuple(self._produced),
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
            prompt_logprobs=self._first.prompt_logprobs,
        )


class RequestCollector:
    """Collects the deltas of one request into its output."""

    def __init__(self, request_id: str, prompt_token_ids: tuple[int, ...]) -> None:
        self._request_id = request_id
        self._prompt_token_ids = prompt_token_ids
        self._mergers: dict[int, DeltaMerger] = {}
        self._usage: Usage | None = None

    def add(self, delta: OutputDelta) -> bool:
        """Take in a delta; True when it was the last."""
        self._mergers.setdefault(delta.index, DeltaMerger()).add(delta)
        self._usage = delta.usage
        return delta.usage is not None

    def output(self) -> RequestOutput:
        """The finished request; ValueError before its last delta."""
        if self._usage is None:
            raise ValueError(f"{self._request_id} has not finished")
        merged = (self._mergers[index].merged() for index in sorted(self._mergers))
        return RequestOutput(
            request_id=self._request_id,
            prompt_token_ids=self._prompt_token_ids,
            outputs=tuple(_completion(delta) for delta in merged),
            usage=self._usage,
        )


def _completion(delta: OutputDelta) -> CompletionOutput:
    return CompletionOutput(
        index=delta.index,
        text=delta.text,
        token_ids=delta.token_ids,
        finish_reason=delta.finish_reason,
        logprobs=delta.logprobs,
        error=delta.error,
    )
