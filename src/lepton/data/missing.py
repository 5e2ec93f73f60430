"""What stands in a cell that holds nothing."""

from __future__ import annotations

MISSING = frozenset(
    {"", "nan", "NaN", "NAN", "-nan", "-NaN", "null", "NULL", "n/a", "N/A", "#N/A", "<NA>"}
)
"""Cells that pandas, databases and Excel write where there is nothing."""
