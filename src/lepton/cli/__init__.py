"""The ``lepton`` command: arguments, progress and tables; the work is done by the other rooms."""

from __future__ import annotations

import sys

_NEEDED = frozenset({"httpx", "prompt_toolkit", "rich", "typer"})


def main() -> None:
    """Run the command line."""
    try:
        from lepton.cli.app import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _NEEDED:
            raise
        sys.exit(f"lepton: the command line needs {missing}: pip install 'lepton-engine[serve]'")
    run()
