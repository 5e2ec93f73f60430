"""From the messages of a conversation to the prompt a model was tuned on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from lepton.errors import ModelFormatError, RequestError
from lepton.models.tokenizer.budget import RenderLimits
from lepton.models.tokenizer.from_json import read_json_object
from lepton.models.tokenizer.sandbox import TemplateSandbox

if TYPE_CHECKING:
    from lepton.models.tokenizer.tokenizer import Tokenizer
    from lepton.models.weights import Checkpoint

MAX_TEMPLATE_CHARACTERS = 262_144
MAX_REASON_CHARACTERS = 1_000
"""Length to which a template's own error message is cut."""
_GGUF_KEY = "tokenizer.chat_template"
_FILE = "chat_template.jinja"


class ChatTemplate:
    """A model's chat template: a Jinja program from the model's own files, never from a request.

    Immutable, and safe for use from several threads.

    Args:
        source: the template.
        special_tokens: variables such as ``bos_token`` that it may use.
        file: named in the error message when the template is not valid.
        limits: what one rendering may spend.

    Raises:
        ModelFormatError: the template is not valid.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str] | None = None,
        *,
        file: object = None,
        limits: RenderLimits | None = None,
    ) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens or {})
        self._limits = limits or RenderLimits()
        self._sandbox = TemplateSandbox()
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise ModelFormatError(
                f"the chat template has more than {MAX_TEMPLATE_CHARACTERS:,} characters", file=file
            )
        try:
            self._template = self._sandbox.compile_template(source)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            where = f" in line {line}" if line else ""
            raise ModelFormatError(
                f"the chat template is not valid{where}: {error.message}", file=file
            ) from None
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise ModelFormatError(
                f"the chat template cannot be compiled: {error}", file=file
            ) from None

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, tokenizer: Tokenizer) -> ChatTemplate | None:
        """The template that came with a model, or None when there is none.

        Looks at the GGUF key ``tokenizer.chat_template``, or at ``chat_template.jinja`` and then
        ``tokenizer_config.json`` of a model folder.

        Raises:
            ModelFormatError: the template cannot be read or is not valid.
        """
        if checkpoint.format == "gguf":
            file = checkpoint.path
            source = checkpoint.metadata.get(_GGUF_KEY)
        else:
            file, source = _from_folder(checkpoint.path)
        if source is None:
            return None
        if not isinstance(source, str):
            raise ModelFormatError("the chat template is not a text", file=file)
        return cls(source, tokenizer.named_tokens, file=file)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> str:
        """Write a conversation as a prompt.

        Args:
            messages: each with a ``role`` and a ``content``: a text, or a list of parts
                ``{"type": "text", "text": …}``, which are joined by line breaks.
            add_generation_prompt: end with the opening of the assistant's answer.

        Raises:
            RequestError: a message is malformed, or the template refuses the conversation or goes
                over its limits.
        """
        variables = {
            "documents": None,
            "tools": None,
            **self._special_tokens,
            "messages": [_plain(message, number) for number, message in enumerate(messages)],
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return self._sandbox.render(self._template, variables, self._limits)
        except Exception as error:  # a template may raise anything
            reason = str(error)[:MAX_REASON_CHARACTERS] or type(error).__name__
            raise RequestError(
                f"the model's chat template failed: {reason}",
                param="messages",
                code="chat_template_error",
            ) from error


def _from_folder(folder: Path) -> tuple[Path, Any]:
    """File and source of a folder's template; of several named ones, the default."""
    file = folder / _FILE
    if file.is_file():
        try:
            return file, file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelFormatError(f"cannot be read: {error}", file=file) from None
    file = folder / "tokenizer_config.json"
    source = read_json_object(file).get("chat_template")
    if isinstance(source, list):
        named = {
            entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)
        }
        source = named.get("default")
    return file, source


def _plain(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A message as templates expect it: a plain dict whose content is one text."""
    where = f"messages[{number}]"
    if not isinstance(message, Mapping):
        raise RequestError(f"{where} must be an object", param=where)
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise RequestError(f"{where}.role must be a text", param=f"{where}.role")
    return {**message, "content": _content(message.get("content"), f"{where}.content")}


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise RequestError(f"{where} must be a text or a list of text parts", param=where)
    return "\n".join(_part(part, f"{where}[{number}]") for number, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind != "text" or not isinstance(text, str):
        raise RequestError(
            f"{where} must be a text part, not {kind!r}: this model reads text only",
            param=where,
            code="unsupported_content",
        )
    return text
