"""The memory that encoders take, which they share with whatever else a process has loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lepton.engine.cache_plan import WORKING_BYTES, available_text
from lepton.engine.config import EngineConfig
from lepton.errors import ConfigurationError
from lepton.models.executors.encoder_packing import choose_types, encoder_bytes
from lepton.telemetry.machine import Machine, inspect_machine

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderModel


def encoder_memory(model: EncoderModel, config: EngineConfig) -> int:
    """Bytes that an encoder takes with these choices: its weights, and room to work."""
    return encoder_bytes(model, choose_types(config.dtype, config.quantize)) + WORKING_BYTES


def check_memory(model: EncoderModel, config: EngineConfig, machine: Machine | None = None) -> None:
    """Raise ConfigurationError, with the sum, when an encoder does not fit into free memory.

    ``machine`` is this one where none is given; what ``config`` reserves is not free.
    """
    machine = machine or inspect_machine()
    needed, reserved = encoder_memory(model, config), config.reserved_memory
    if needed + reserved <= machine.available_memory:
        return
    others = f" + {reserved:,} for other models" if reserved else ""
    raise ConfigurationError(
        f"{model.name}: {needed - WORKING_BYTES:,} bytes of weights + {WORKING_BYTES:,} to work "
        f"with{others} = {needed + reserved:,} bytes, but {available_text(machine)}: choose a "
        "smaller model, quantize it to int8, or give the process more memory"
    )
