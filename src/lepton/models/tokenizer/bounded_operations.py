"""Checks on the operations of chat templates whose result can far outgrow what goes in.

Each check estimates the size of a result before the operation is carried out, and raises rather
than let it become larger than the rendering's limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2.exceptions import SecurityError, TemplateRuntimeError

from lepton.models.tokenizer.budget import MAX_INTEGER_BITS, RenderBudget

MAX_WIDTH = 10_000
"""Largest field width in a format, and largest padding or count given to a filter."""

_NUMBER = re.compile(r"\d+")
_SEQUENCES = (str, bytes, list, tuple)


def check_binary(budget: RenderBudget, symbol: str, left: Any, right: Any) -> None:
    """Check ``left symbol right`` for ``+``, ``*``, ``**`` and ``%``."""
    if symbol == "%" and isinstance(left, (str, bytes)):
        check_percent_format(budget, left, right)
    elif symbol == "+" and isinstance(left, _SEQUENCES) and isinstance(right, _SEQUENCES):
        budget.allow(len(left) + len(right))
    elif symbol == "*":
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, _SEQUENCES) and isinstance(count, int):
                budget.allow(len(sequence) * count)
    elif symbol == "**" and isinstance(left, int) and isinstance(right, int):
        check_power(left, right)


def check_power(base: int, exponent: int) -> None:
    """Check ``base ** exponent``."""
    if base.bit_length() * abs(exponent) > MAX_INTEGER_BITS:
        raise TemplateRuntimeError("a power is too large")


def check_percent_format(budget: RenderBudget, template: Any, *values: Any) -> None:
    """Check ``template % values``."""
    text = template.decode("latin-1") if isinstance(template, bytes) else str(template)
    check_widths(text)
    if "*" in text:
        raise TemplateRuntimeError("'*' in a % format is not supported")
    budget.allow(len(text) + text.count("%") * (budget.measure(*values) + 1))


def check_widths(specification: str) -> None:
    """Check that no number in a format asks for a very wide field."""
    for digits in _NUMBER.findall(specification):
        if len(digits) > 9 or int(digits) > MAX_WIDTH:
            raise TemplateRuntimeError(f"a format asks for a width over {MAX_WIDTH:,}")


def check_join(budget: RenderBudget, separator: Any, values: Any) -> None:
    """Check joining values, which must not be an iterator."""
    parts = len(values) if hasattr(values, "__len__") else 0
    budget.allow(budget.measure(values) + parts * budget.measure(separator))


def check_replace(budget: RenderBudget, text: Any, old: Any, new: Any, *_: Any) -> None:
    """Check replacing one text by another throughout a third."""
    budget.measure(text, old, new)
    text = str(text)
    budget.allow(len(text) + text.count(str(old)) * len(str(new)))


def check_width(value: Any) -> None:
    """Check a width, a count or an indentation given as a number."""
    if isinstance(value, int) and value > MAX_WIDTH:
        raise TemplateRuntimeError(f"a width must not be over {MAX_WIDTH:,}")


def _check_padding(_budget: RenderBudget, _text: Any, width: Any = 0, *_: Any) -> None:
    check_width(width)


def _check_indent(budget: RenderBudget, text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    check_width(width)
    margin = len(width) if isinstance(width, str) else int(width)
    budget.allow((len(str(text).splitlines()) + 1) * margin)


def _check_join_filter(
    budget: RenderBudget, values: Any, d: Any = "", _attribute: Any = None, **_: Any
) -> None:
    check_join(budget, d, values)


def _check_tabs(budget: RenderBudget, text: Any, size: Any = 8) -> None:
    check_width(size)
    budget.allow(len(text) + text.count("\t") * int(size))


def _check_sum(_budget: RenderBudget, values: Any, attribute: Any = None, start: Any = 0) -> None:
    if attribute is not None or not all(isinstance(v, (int, float)) for v in (*values, start)):
        raise TemplateRuntimeError("sum takes plain numbers only")


def _check_round(_budget: RenderBudget, _value: Any, precision: Any = 0, *_: Any) -> None:
    if abs(precision) > 100:
        raise TemplateRuntimeError("round takes at most 100 decimals")


Check = Callable[..., None]

FILTER_CHECKS: Mapping[str, Check] = {
    "batch": _check_padding,
    "center": lambda budget, text, width=80: _check_padding(budget, text, width),
    "format": check_percent_format,
    "indent": _check_indent,
    "join": _check_join_filter,
    "replace": check_replace,
    "round": _check_round,
    "slice": _check_padding,
    "sum": _check_sum,
}
"""Checks on filters, called with the budget and the filter's arguments."""

_TEXT_METHOD_CHECKS: Mapping[str, Check] = {
    "center": _check_padding,
    "expandtabs": _check_tabs,
    "join": check_join,
    "ljust": _check_padding,
    "replace": check_replace,
    "rjust": _check_padding,
    "zfill": _check_padding,
}
_REFUSED_METHODS = frozenset({"encode", "format", "format_map", "maketrans", "translate"})


def check_method(
    budget: RenderBudget, owner: Any, name: str, arguments: Iterator[Any] | tuple[Any, ...]
) -> None:
    """Check calling a built-in method; only those of texts and plain containers are offered."""
    if not isinstance(owner, (str, list, tuple, dict)) or name in _REFUSED_METHODS:
        raise SecurityError(f"method {name!r} of {type(owner).__name__!r} is not available")
    check = _TEXT_METHOD_CHECKS.get(name) if isinstance(owner, str) else None
    if check is not None:
        check(budget, owner, *arguments)
