"""The ``lepton`` command: arguments, progress and tables; the work is done by the other rooms."""

from __future__ import annotations

import sys

_NEEDED = frozenset({"httpx", "prompt_toolkit", "rich", "typer"})


def main() -> None:
    """Run the command line."""
    try:
        from lepton.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        sys.exit(f"lepton: the command line needs {error.name}: pip install 'lepton-engine[serve]'")
    run()
