"""Prompts whose answers repeat their text, and such that do not."""

from __future__ import annotations

from bench.serving.texts import articles
from lepton.engine import encode_chat
from lepton.models.loader import Model

_PER_KIND = 4
_CHARACTERS = 900
_COPYING = {
    "summarise": "Summarise this news article in three sentences taken from it.\n\n{text}",
    "edit": "Correct the spelling of this text and write out the whole text again.\n\n{text}",
    "answer from context": (
        "Answer from the text alone, quoting it word for word.\n\n{text}\n\n"
        "Question: what happened, and who was involved?"
    ),
}
FREE_CHAT = "free chat"
_CHAT = (
    "Tell me a short story about a lighthouse keeper.",
    "How do I learn to play the piano as an adult?",
    "Explain why the sky is blue to a child.",
    "What should I pack for a week in the mountains?",
)


def by_kind(model: Model) -> dict[str, list[list[int]]]:
    """Token ids of conversations, by the kind of their task."""
    texts = [text[:_CHARACTERS] for text in articles()]
    kinds = {}
    for number, (kind, form) in enumerate(_COPYING.items()):
        chosen = texts[number * _PER_KIND : (number + 1) * _PER_KIND]
        kinds[kind] = [_conversation(model, form.format(text=text)) for text in chosen]
    kinds[FREE_CHAT] = [_conversation(model, question) for question in _CHAT]
    return kinds


def _conversation(model: Model, content: str) -> list[int]:
    return encode_chat(model, [{"role": "user", "content": content}])
