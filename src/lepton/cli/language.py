"""Chinese or English: the code is written in English and looked up in one table.

``LEPTON_LANG`` decides, or else the locale (``LC_ALL``, ``LC_MESSAGES``, ``LANG``). A text that the
table does not hold stays English.
"""

from __future__ import annotations

import os
from typing import Any

from lepton.cli.chinese import CHINESE

_VARIABLES = ("LEPTON_LANG", "LC_ALL", "LC_MESSAGES", "LANG")


def chinese() -> bool:
    """Whether the user reads Chinese."""
    chosen = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "")
    return chosen.lower().startswith("zh")


def say(english: str, **values: object) -> str:
    """``english``, or its Chinese, with ``{names}`` filled in."""
    text = CHINESE.get(english, english) if chinese() else english
    return text.format(**values) if values else text


def translate(command: Any) -> None:
    """Put the help of a command, its options and sub-commands into the user's language."""
    if command.help:
        command.help = say(" ".join(command.help.split()))
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = say(parameter.help)
    for child in getattr(command, "commands", {}).values():
        translate(child)
