"""Text to tokens and back, off the event loop: long prompts take longer than a step.

Long texts have a thread of their own, so that short ones need not wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from lepton.errors import EngineError, RequestError
from lepton.server.schemas import Message, Prompt

if TYPE_CHECKING:
    from lepton.models.loader import Model

THREADS = 2
LONG_TEXT = 32_768
"""Characters from which a text counts as long; encoding so many takes about a tenth of a second."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class TextWorker:
    """Runs the tokenizer and the chat template in threads of their own."""

    def __init__(self, model: Model) -> None:
        self._tokenizer = model.tokenizer
        self._template = model.chat_template
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lepton-text")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="lepton-long-text")

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        most: int | None = None,
    ) -> list[int]:
        """Token ids of a conversation, as the model's chat template writes it.

        Raises RequestError when the model has no template, the template refuses, or there are
        surely more than ``most`` tokens.
        """
        turns = [message.for_template() for message in messages]
        size = sum(len(text) for turn in turns for text in turn.values())
        return await self._run(size, self._chat, turns, add_generation_prompt, most)

    async def prompt(
        self, prompt: Prompt, *, add_special_tokens: bool = True, most: int | None = None
    ) -> list[int]:
        """Token ids of a completion prompt.

        Raises RequestError when an id is not in the vocabulary, or there are surely more than
        ``most`` tokens.
        """
        if isinstance(prompt, str):
            return await self._run(
                len(prompt), self._encode, prompt, add_special_tokens, most, "prompt"
            )
        return await self._run(len(prompt), self._checked, prompt, "prompt")

    async def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids; RequestError when one is not in the vocabulary."""
        return await self._run(len(token_ids), self._decode, token_ids, skip_special_tokens)

    async def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token on its own."""
        return await self._run(
            len(token_ids), lambda: [self._tokenizer.token_text(token) for token in token_ids]
        )

    def close(self) -> None:
        """Stop the threads once they are idle."""
        for threads in (self._threads, self._long):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self,
        size: int,
        work: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        loop = asyncio.get_running_loop()
        threads = self._threads if size < LONG_TEXT else self._long
        try:
            return await loop.run_in_executor(threads, partial(work, *args, **kwargs))
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as panic:
            # As `Tokenizer.encode` does; nothing else may end the server either.
            raise EngineError("the tokenizer failed on this text") from panic

    def _chat(
        self, turns: list[dict[str, str]], add_generation_prompt: bool, most: int | None
    ) -> list[int]:
        if self._template is None:
            raise RequestError(
                "This model has no chat template: use /v1/completions instead.",
                param="messages",
                code="no_chat_template",
            )
        text = self._template.render(turns, add_generation_prompt=add_generation_prompt)
        return self._encode(text, False, most, "messages")

    def _encode(
        self, text: str, add_special_tokens: bool, most: int | None, param: str
    ) -> list[int]:
        if most is not None and self._tokenizer.exceeds(text, most):
            raise RequestError(
                f"The context holds {most} tokens, and {param!r} has more: shorten {param!r}.",
                param=param,
                code="context_length_exceeded",
            )
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def _decode(self, token_ids: Sequence[int], skip_special_tokens: bool) -> str:
        checked = self._checked(token_ids, "tokens")
        return self._tokenizer.decode(checked, skip_special_tokens=skip_special_tokens)

    def _checked(self, token_ids: Sequence[int], param: str) -> list[int]:
        size = self._tokenizer.vocab_size
        for token in token_ids:
            if not 0 <= token < size:
                raise RequestError(
                    f"{param!r} holds the token id {token}; the vocabulary has ids from 0 to "
                    f"{size - 1}.",
                    param=param,
                    code="invalid_value",
                )
        return list(token_ids)
