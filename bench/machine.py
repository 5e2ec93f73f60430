"""The machine that results belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lepton.kernels import _native
from lepton.telemetry.machine import inspect_machine


def this_machine() -> dict[str, Any]:
    """Processor, instruction set and threads, as results note them."""
    machine = inspect_machine()
    return {
        "processor": machine.processor,
        "instruction_set": _native.selected_isa(),
        "threads": machine.threads,
    }


def same_machine(noted: dict[str, Any], file: Path) -> dict[str, Any]:
    """What to note in a results file; SystemExit if the results in it are another machine's."""
    here = this_machine()
    there = {name: noted.get(name, "unknown") for name in here}
    if noted and there != here:
        names = ", ".join(map(str, there.values()))
        raise SystemExit(
            f"{file} holds results of another machine ({names}); choose another --results file"
        )
    return here
