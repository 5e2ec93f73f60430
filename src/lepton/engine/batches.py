"""What calls with one input or many have in common: which of the two, and a bar of progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from importlib.util import find_spec
from numbers import Integral
from typing import cast

from lepton.engine.prompts import Prompt
from lepton.errors import RequestError


def listed(inputs: Prompt | Sequence[Prompt], *, param: str) -> Sequence[Prompt]:
    """Texts or lists of token ids, in a list; RequestError when it is none of these.

    Token ids are whole numbers, numpy's too.
    """
    if not isinstance(inputs, Sized):
        raise RequestError(
            f"give a text, or a list of texts or token ids, not {type(inputs).__name__}",
            param=param,
        )
    one = isinstance(inputs, str) or (len(inputs) > 0 and isinstance(inputs[0], Integral))
    return cast("Sequence[Prompt]", [inputs] if one else inputs)


@contextmanager
def progress_bar(title: str, total: int, *, show: bool) -> Iterator[Callable[[int], object]]:
    """A function that moves a bar by so many inputs, if ``show`` and rich allow."""
    if not show or find_spec("rich") is None:
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress() as bars:
        task = bars.add_task(title, total=total)
        yield lambda done: bars.advance(task, done)
