"""Requests of the OpenAI API and Lepton's additions to it, strictly typed.

https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from lepton.server import fields

Prompt = str | tuple[int, ...]
TokenId = Annotated[int, Field(ge=0)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def as_prompts(value: Any) -> tuple[Prompt, ...]:
    """Texts or lists of token ids from any of the shapes that OpenAI takes."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        if all(type(item) is int for item in value):
            return (tuple(value),)
        if all(isinstance(item, str) for item in value):
            return tuple(value)
        if all(isinstance(item, list) and _all_ids(item) for item in value):
            return tuple(tuple(item) for item in value)
    raise PydanticCustomError(
        "prompt_type", "expected a string, a list of strings, token ids, or lists of token ids"
    )


def _all_ids(items: list[Any]) -> bool:
    return bool(items) and all(type(item) is int for item in items)


def _as_text(value: Any) -> Any:
    """Message content: a string, or parts of type ``text`` that are joined."""
    if not isinstance(value, list):
        return value
    texts = []
    for number, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise PydanticCustomError(
                "content_type", "part {number} must be an object with a type", {"number": number}
            )
        if kind != "text":
            raise fields.unsupported(f"The content part '{kind[:80]}'")
        text = part.get("text")
        if not isinstance(text, str) or part.keys() - {"type", "text"}:
            raise PydanticCustomError(
                "content_type",
                "part {number} must hold 'text', a string, and nothing else",
                {"number": number},
            )
        texts.append(text)
    return "".join(texts)


class Strict(BaseModel):
    """Types are taken literally and unknown fields refused."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


class StreamOptions(Strict):
    """What a stream carries beside its deltas."""

    include_usage: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, content: Any) -> Any:
        return fields.without(content, fields.STREAM_OPTIONS)


class Message(Strict):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_as_text)]

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("role") in ("tool", "function"):
            raise fields.unsupported(f"The message role '{content['role']}'", field="role")
        return fields.without(content, fields.MESSAGE)

    def for_template(self) -> dict[str, str]:
        """As chat templates know it: ``developer`` is OpenAI's newer word for ``system``."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": self.content}


class GenerationRequest(Strict):
    """What both kinds of completion have in common."""

    model: str
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stop: Annotated[list[str], BeforeValidator(_as_list)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    """Accepted for the sake of clients; has no effect."""

    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[TokenId] | None = None

    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    """Lower numbers are served first; a key's own priority is as low as it gets."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which the request ends with what has been generated."""
    cache_salt: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Only requests of the same key and salt reuse each other's prompts."""

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise invalid_value(
                "stream_options", "The field 'stream_options' needs 'stream' to be true."
            )
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(GenerationRequest):
    """``POST /v1/completions``."""

    prompt: Annotated[tuple[Prompt, ...], BeforeValidator(as_prompts)]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, content: Any) -> Any:
        return fields.without(content, fields.COMPLETION)


class ChatCompletionRequest(GenerationRequest):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    metadata: dict[str, str] | None = None
    """Accepted for the sake of clients, as are the following; no effect without ``store``."""
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, content: Any) -> Any:
        return fields.without(content, fields.CHAT)

    @model_validator(mode="after")
    def _consistent(self) -> ChatCompletionRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid_value(
                "top_logprobs", "The field 'top_logprobs' needs 'logprobs' to be true."
            )
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise invalid_value(
                "max_tokens", "The fields 'max_tokens' and 'max_completion_tokens' differ."
            )
        return self


class TokenizeRequest(Strict):
    """``POST /tokenize``: a text, or messages through the chat template."""

    model: str | None = None
    prompt: str | None = None
    add_special_tokens: bool = True
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_input(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise invalid_value("prompt", "Give either 'prompt' or 'messages'.")
        return self


class DetokenizeRequest(Strict):
    """``POST /detokenize``."""

    model: str | None = None
    tokens: list[TokenId]
    skip_special_tokens: bool = False


def invalid_value(field: str, message: str) -> PydanticCustomError:
    """An error about a field, in a sentence of its own."""
    return PydanticCustomError("invalid_value", "{message}", {"field": field, "message": message})
