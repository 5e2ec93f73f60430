"""Fields of the OpenAI API, and of others taken as models, that Lepton does not offer yet.

Values that ask for nothing are accepted; any other gets an error that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

Harmless = Mapping[str, tuple[Any, ...]]
"""Unsupported field → values beside null that ask for nothing."""

CHAT: Harmless = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True,),
    "prediction": (),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": ("medium",),
    "web_search_options": (),
}

COMPLETION: Harmless = {
    "best_of": (1,),
    "logit_bias": ({},),
    "suffix": ("",),
}

MESSAGE: Harmless = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "name": (),
    "refusal": (),
    "tool_call_id": (),
    "tool_calls": ([],),
}

RERANK: Harmless = {
    "max_tokens_per_doc": (4096,),
    "rank_fields": (["text"],),
    "return_embeddings": (False,),
    "truncation": (True,),
}
"""Of Cohere and Jina."""

STREAM_OPTIONS: Harmless = {"include_obfuscation": (False,)}


def without(content: Any, fields: Harmless) -> Any:
    """``content`` without its harmless unsupported fields.

    Raises PydanticCustomError ``unsupported_parameter`` for the first one that is not harmless.
    """
    if not isinstance(content, dict):
        return content
    for name in content.keys() & fields.keys():
        value = content[name]
        if value is not None and not any(
            type(value) is type(harmless) and value == harmless for harmless in fields[name]
        ):
            raise unsupported(f"The field '{name}'", field=name)
    return {name: value for name, value in content.items() if name not in fields}


def unsupported(what: str, field: str = "") -> PydanticCustomError:
    """The error for something known that is not supported yet.

    ``field`` is its name within what is being validated; empty for that itself.
    """
    return PydanticCustomError(
        "unsupported_parameter", "{what} is not supported yet.", {"what": what, "field": field}
    )
