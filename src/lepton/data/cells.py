"""Cells and names of columns, whatever the format they come from."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any


def cell(value: Any) -> str | None:
    """A cell of a typed format as text; None and NaN are missing, 3.0 is "3"."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` of columns, those that are there already with a number."""
    result: dict[str, None] = {}
    for name in names:
        unique, copy = name, 2
        while unique in result:
            unique, copy = f"{name} ({copy})", copy + 1
        result[unique] = None
    return tuple(result)


def header_names(cells: Sequence[str]) -> tuple[str, ...]:
    """The names of columns in a first row; those that are empty are told by their position."""
    return unique_names(
        [
            cell.strip().removeprefix("\ufeff") or f"column {position}"
            for position, cell in enumerate(cells, 1)
        ]
    )
