"""Tables of texts: read, profile, clean, split, augment.

Names are imported on first use, so that reading a table does not load what cleaning one needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lepton.data.reading import MISSING, TableReader, read_table
    from lepton.data.splitting import Split, folds, split
    from lepton.data.table import Problems, Row, RowProblem, Table

__all__ = [
    "MISSING",
    "Problems",
    "Row",
    "RowProblem",
    "Split",
    "Table",
    "TableReader",
    "folds",
    "read_table",
    "split",
]

_MODULES = {
    "MISSING": "reading",
    "Problems": "table",
    "Row": "table",
    "RowProblem": "table",
    "Split": "splitting",
    "Table": "table",
    "TableReader": "reading",
    "folds": "splitting",
    "read_table": "reading",
    "split": "splitting",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
