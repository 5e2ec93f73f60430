"""Labels as a caller gave them: text, whole numbers or truth values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.errors import DataError
from lepton.training.config import Objective
from lepton.training.dataset import Target, is_missing, label_set, name_of


def checked_targets(targets: Iterable[Target]) -> list[Target]:
    """The targets as a list; DataError where one is an array, such as a row of zeros and ones."""
    listed = list(targets)
    for number, target in enumerate(listed, 1):
        if isinstance(target, np.ndarray):
            raise DataError(
                f"label {number:,} is an array: give one label a text, or a list of the names of "
                "its labels"
            )
    return listed


def distinct_values(targets: Sequence[Target], objective: Objective) -> list[Any]:
    """The distinct labels of `single` or `multi` targets, sorted; by name where values do not sort.

    Those of one name, such as 3 and "3", are one: the first.
    """
    by_name: dict[str, Any] = {}
    for target in targets:
        for label in (target,) if objective == "single" else _parts(target):
            if not is_missing(label):
                by_name.setdefault(name_of(label), label)
    try:
        return sorted(by_name.values())
    except TypeError:
        return [by_name[name] for name in sorted(by_name)]


def value_array(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Labels as an array; of objects where text stands beside numbers, which would become text."""
    kinds = {isinstance(value, str) for value in values}
    return np.asarray(values, object if len(kinds) > 1 else None)


def _parts(target: Any) -> Iterable[Any]:
    if isinstance(target, list | tuple | set | frozenset):
        return target
    return label_set(target) if isinstance(target, str) else (target,)
