"""Chinese for what the command line says."""

from __future__ import annotations

CHINESE: dict[str, str] = {}
