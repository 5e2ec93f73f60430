"""Who answers in ``lepton chat``: a model in this process, or a server that speaks OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import httpx

from lepton.engine import LLM, SamplingParams
from lepton.errors import ConfigurationError, EngineError, RequestError

Message = Mapping[str, str]


@dataclass(frozen=True)
class Fragment:
    """A part of an answer; ``tokens`` counts its new tokens, as far as they are known."""

    text: str
    tokens: int
    finish_reason: str | None = None


class Responder(Protocol):
    """Answers a conversation, piece by piece; closing the generator stops the answer."""

    name: str

    def answer(
        self, messages: Sequence[Message], params: SamplingParams
    ) -> Generator[Fragment, None, None]:
        """The assistant's next message."""

    def close(self) -> None:
        """Release what the answers needed."""


class LocalResponder:
    """A model loaded into this process."""

    def __init__(self, llm: LLM) -> None:
        if llm.model.chat_template is None:
            raise ConfigurationError(
                f"{llm.model.name} has no chat template: use `lepton run --raw`, or chat with an "
                "instruct model"
            )
        self._llm = llm
        self.name = llm.model.name

    def answer(
        self, messages: Sequence[Message], params: SamplingParams
    ) -> Generator[Fragment, None, None]:
        """Stream from the engine."""
        for delta in self._llm.stream(messages, params):
            if delta.finish_reason == "error":
                raise EngineError(delta.error or "the answer failed")
            yield Fragment(delta.text, len(delta.token_ids), delta.finish_reason)

    def close(self) -> None:
        """Unload the model."""
        self._llm.close()


class RemoteResponder:
    """A server that answers ``/v1/chat/completions`` with server-sent events."""

    def __init__(self, url: str, model: str | None, api_key: str | None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        base = url.rstrip("/").removesuffix("/v1")
        try:
            self._client = httpx.Client(
                base_url=base, headers=headers, timeout=httpx.Timeout(600, connect=10)
            )
            self.name = model or self._first_model()
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"{url} is not an address: {error}") from error

    def answer(
        self, messages: Sequence[Message], params: SamplingParams
    ) -> Generator[Fragment, None, None]:
        """Stream from the server."""
        body = {"model": self.name, "messages": list(messages), "stream": True, **_fields(params)}
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.is_error:
                    response.read()
                    raise RequestError(_refusal(response))
                yield from _fragments(response.iter_lines())
        except httpx.HTTPError as error:
            raise EngineError(f"{self._client.base_url} broke off: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _first_model(self) -> str:
        try:
            response = self._client.get("/v1/models")
            if response.is_error:
                raise ConfigurationError(_refusal(response))
            return str(response.json()["data"][0]["id"])
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise ConfigurationError(
                f"{self._client.base_url} does not answer like an OpenAI-compatible server: {error}"
            ) from error


def _fields(params: SamplingParams) -> dict[str, Any]:
    """The settings that differ from the defaults, so that any server understands the request."""
    defaults = asdict(SamplingParams())
    chosen = {name: value for name, value in asdict(params).items() if value != defaults[name]}
    if "stop" in chosen:
        chosen["stop"] = list(chosen["stop"])
    return chosen


def _fragments(lines: Iterator[str]) -> Iterator[Fragment]:
    for line in lines:
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        try:
            event = json.loads(data)
            if "error" in event:
                raise EngineError(str(event["error"]["message"]))
            for choice in event["choices"]:
                text = choice["delta"].get("content") or ""
                yield Fragment(text, 1 if text else 0, choice.get("finish_reason"))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineError(f"the server sent what is no chat event: {data[:80]}") from error


def _refusal(response: httpx.Response) -> str:
    try:
        message = response.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = response.reason_phrase
    return f"{response.url} answered HTTP {response.status_code}: {message}"
