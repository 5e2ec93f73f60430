"""Structured logs: one JSON object, or one readable line, per event.

Prompts and completions are never logged: an event carries only the fields its caller names.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["json", "text"]

ROOTS = ("lepton", "uvicorn")
"""Loggers that are routed to the handler; libraries beside them keep the process's defaults."""

TALKATIVE = "uvicorn"
"""Tells its every step: heard from warnings on, and below when debugging."""


def log_event(logger: logging.Logger, level: int, event: str, **fields: Any) -> None:
    """Log ``event`` with named values; None values are left out."""
    if logger.isEnabledFor(level):
        present = {name: value for name, value in fields.items() if value is not None}
        logger.log(level, event, extra={"fields": present})


class JsonFormatter(logging.Formatter):
    """One JSON object per line. Newlines in values are escaped, so an entry cannot be forged."""

    def format(self, record: logging.LogRecord) -> str:
        """``time`` (UTC), ``level``, ``logger``, ``event``, the event's fields, ``exception``."""
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """The same entry for a terminal: time, level, event, then ``name=value`` pairs."""

    def format(self, record: logging.LogRecord) -> str:
        """A single line, followed by the traceback when there is one."""
        pairs = [
            f"{name}={json.dumps(value, ensure_ascii=False, default=str)}"
            for name, value in getattr(record, "fields", {}).items()
        ]
        event = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = " ".join([_time(record), record.levelname, event, *pairs])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging(
    level: str = "info", log_format: LogFormat = "json", stream: TextIO | None = None
) -> None:
    """Send Lepton's and uvicorn's logs to ``stream`` (standard error by default)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    for name in ROOTS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
    if logging.getLogger(TALKATIVE).level == logging.INFO:
        logging.getLogger(TALKATIVE).setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
