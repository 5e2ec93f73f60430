"""``lepton doctor``: what this machine is, and which models fit it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from rich.markup import escape
from rich.table import Table

from lepton import __version__, config
from lepton.cli import options
from lepton.cli.console import output, size
from lepton.cli.language import say
from lepton.engine import EngineConfig
from lepton.errors import ConfigurationError
from lepton.kernels import IsaInfo, isa_info
from lepton.models import catalogue
from lepton.models.executors import KvDtype
from lepton.models.footprint import Footprint
from lepton.telemetry.machine import Machine, inspect_machine


@dataclass(frozen=True)
class Fit:
    """Whether one model of the catalogue fits this machine."""

    name: str
    cached: bool
    weights: int
    largest_context: int


def doctor(
    kv_dtype: options.KvDtype = EngineConfig.kv_dtype, as_json: options.Json = False
) -> None:
    """Show what this machine offers, which models are here and which would fit."""
    machine = inspect_machine()
    usable = machine.available_memory
    native, problem = _native()
    fits = _fits(usable, kv_dtype)
    if as_json:
        output.print_json(json.dumps(_fields(machine, usable, native, problem, fits)))
        return
    output.print(_machine_table(machine, usable, native, problem))
    output.print()
    output.print(_fit_table(fits))


def _native() -> tuple[IsaInfo | None, str | None]:
    """The native core's instruction sets, or why it cannot be used."""
    try:
        return isa_info(), None
    except (ImportError, ConfigurationError) as error:
        return None, str(error)


def _fits(usable: int, kv_dtype: KvDtype) -> list[Fit]:
    fits = []
    for name, entry in catalogue.entries().items():
        path = catalogue.cached(name)
        # An unknown download is taken as eight bits and a little for each parameter.
        weights = path.stat().st_size if path else entry.size or int(entry.parameters * 1.07)
        footprint = Footprint(
            weights, entry.layers, entry.kv_heads, entry.head_dim, entry.context_length, kv_dtype
        )
        context = footprint.largest_context(usable)
        fits.append(Fit(name, path is not None, weights, context))
    return fits


def _machine_table(
    machine: Machine, usable: int, native: IsaInfo | None, problem: str | None
) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = [
        ("Lepton", f"{__version__}, Python {platform.python_version()}"),
        ("System", f"{machine.system}, {machine.architecture}"),
        ("Processor", machine.processor),
        ("Instruction set", _instruction_set(native, problem)),
        ("Threads", _threads(machine)),
        ("Memory", _memory(machine, usable)),
        ("Server", say("installed") if find_spec("fastapi") else _install_hint()),
        ("Models in", str(config.models_directory())),
    ]
    for label, value in rows:
        table.add_row(say(label), escape(value))
    return table


def _instruction_set(native: IsaInfo | None, problem: str | None) -> str:
    if native is None:
        return say("the native core cannot be used: {problem}", problem=problem)
    usable = ", ".join(native.supported)
    return say("{selected} (usable here: {usable})", selected=native.selected, usable=usable)


def _install_hint() -> str:
    return say("missing: pip install 'lepton-engine[serve]'")


def _threads(machine: Machine) -> str:
    quota = machine.cgroup_processors
    return say(
        "{threads} (of {logical} processors; affinity {affinity}, cgroup quota {quota})",
        threads=machine.threads,
        logical=machine.logical_processors,
        affinity=machine.affinity_processors,
        quota=say("none") if quota is None else f"{quota:g}",
    )


def _memory(machine: Machine, usable: int) -> str:
    limit = machine.cgroup_memory_limit
    return say(
        "{usable} usable (of {total}; {available} available, cgroup limit {limit})",
        usable=size(usable),
        total=size(machine.memory_total),
        available=size(machine.memory_available),
        limit=say("none") if limit is None else size(limit),
    )


def _fit_table(fits: list[Fit]) -> Table:
    columns = (say("Model"), say("On this machine"), say("Weights"), say("Largest context here"))
    table = Table(*columns, box=None, header_style="bold")
    for fit in fits:
        context = f"{fit.largest_context:,}" if fit.largest_context else say("does not fit")
        state = "[green]✓[/]" if fit.cached else "[dim]–[/]"
        colour = "green" if fit.largest_context else "red"
        table.add_row(fit.name, state, size(fit.weights), f"[{colour}]{context}[/]")
    return table


def _fields(
    machine: Machine,
    usable: int,
    native: IsaInfo | None,
    problem: str | None,
    fits: list[Fit],
) -> dict[str, Any]:
    return {
        "version": __version__,
        "python": platform.python_version(),
        "machine": {
            **asdict(machine),
            "threads": machine.threads,
            "usable_memory": usable,
        },
        "native": asdict(native) if native else None,
        "native_problem": problem,
        "models_directory": str(config.models_directory()),
        "models": [asdict(fit) for fit in fits],
    }
