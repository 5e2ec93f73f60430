"""What the process tells its operators."""

from lepton.telemetry.logging import configure_logging, log_event

__all__ = ["configure_logging", "log_event"]
