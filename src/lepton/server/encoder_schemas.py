"""Requests to encoders, strictly typed.

Embeddings: https://platform.openai.com/docs/api-reference/embeddings. Reranking as Jina and Cohere
have it, scores and classes as vLLM has them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lepton.server import fields
from lepton.server.schemas import Prompt, Strict, as_prompts, invalid_value

MOST_INPUTS = 100_000


def _as_texts(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_document(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"text"}:
        return value["text"]
    return value


Texts = Annotated[
    list[str], BeforeValidator(_as_texts), Field(min_length=1, max_length=MOST_INPUTS)
]
Document = Annotated[str, BeforeValidator(_as_document)]


class EmbeddingRequest(Strict):
    """``POST /v1/embeddings``."""

    model: str | None = None
    input: Annotated[tuple[Prompt, ...], BeforeValidator(as_prompts), Field(max_length=MOST_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    """Accepted for the sake of clients; has no effect."""

    prompt_name: str | None = None
    """One of the model's prompts, such as ``query``."""
    input_type: Literal["query", "document"] | None = None
    """The prompt that the model has for this purpose, if it has one."""
    normalize: bool | None = None
    long_texts: Literal["window", "truncate", "error"] = "window"

    @model_validator(mode="after")
    def _one_prompt(self) -> EmbeddingRequest:
        if self.prompt_name is not None and self.input_type is not None:
            raise invalid_value("input_type", "Give either 'prompt_name' or 'input_type'.")
        return self


class RerankRequest(Strict):
    """``POST /v1/rerank``, and ``/v2/rerank`` as Cohere's client calls it."""

    model: str | None = None
    query: str
    documents: Annotated[list[Document], Field(min_length=1, max_length=MOST_INPUTS)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool = False

    @model_validator(mode="before")
    @classmethod
    def _without_harmless(cls, content: Any) -> Any:
        return fields.without(content, fields.RERANK)


class ScoreRequest(Strict):
    """``POST /v1/score``: each text of one side with its counterpart, or one with all."""

    model: str | None = None
    text_1: Texts
    text_2: Texts

    @model_validator(mode="after")
    def _matching(self) -> ScoreRequest:
        if len(self.text_1) not in (1, len(self.text_2)):
            raise invalid_value(
                "text_2", "The field 'text_2' must have as many texts as 'text_1', or that one."
            )
        return self


class ClassifyRequest(Strict):
    """``POST /v1/classify``."""

    model: str | None = None
    input: Texts
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """A best label less probable than this is left out."""
