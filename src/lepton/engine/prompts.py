"""From what callers have, text or messages, to prompt tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lepton.errors import RequestError

if TYPE_CHECKING:
    from lepton.models.loader import Model

Message = Mapping[str, Any]
Prompt = str | Sequence[int]
"""A text, or token ids used as they are."""


def encode_prompt(model: Model, prompt: Prompt) -> list[int]:
    """Token ids of a prompt; a text gets the special tokens the model expects at its start."""
    return model.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)


def encode_chat(
    model: Model, messages: Sequence[Message], *, add_generation_prompt: bool = True
) -> list[int]:
    """Token ids of a conversation under the model's chat template, which writes special tokens.

    Raises RequestError when the model has no template or the template refuses the messages.
    """
    if model.chat_template is None:
        raise RequestError(
            f"{model.name} has no chat template, so it cannot chat: use a plain completion "
            "or an instruction-tuned model",
            param="messages",
            code="no_chat_template",
        )
    text = model.chat_template.render(messages, add_generation_prompt=add_generation_prompt)
    return model.tokenizer.encode(text, add_special_tokens=False)
