"""The native core and, beside it, a numpy reference of every kernel."""

from __future__ import annotations

from dataclasses import dataclass

from lepton.errors import ConfigurationError


@dataclass(frozen=True)
class IsaInfo:
    """Instruction sets of this machine and the one that will be used."""

    supported: tuple[str, ...]
    """Best first; always ends with ``scalar``."""
    selected: str
    """The best one, or the one forced by the environment variable LEPTON_ISA."""


def isa_info() -> IsaInfo:
    """What the native core found on this machine.

    Raises ConfigurationError when LEPTON_ISA names an instruction set that cannot run here.
    """
    from lepton.kernels import _native

    try:
        selected = _native.selected_isa()
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return IsaInfo(tuple(_native.supported_isas()), selected)
