from __future__ import annotations

import io
import json
import logging

from lepton.telemetry import configure_logging, log_event


def test_json_has_one_parsable_line_per_event() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    log = logging.getLogger("lepton.test")
    log_event(log, logging.INFO, "request", route="/v1\nfake", status=200, key=None, 模型="模型")
    log_event(log, logging.DEBUG, "hidden")
    try:
        raise ValueError("of\nmany lines")
    except ValueError:
        log.exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["event"] == "request"
    assert first["level"] == "info"
    assert first["logger"] == "lepton.test"
    assert first["route"] == "/v1\nfake"
    assert first["status"] == 200
    assert first["模型"] == "模型"
    assert "key" not in first
    assert first["time"].endswith("Z")
    assert "ValueError" in second["exception"]


def test_text_cannot_be_forged_by_newlines() -> None:
    stream = io.StringIO()
    configure_logging("info", "text", stream)
    log = logging.getLogger("lepton.test")
    log_event(log, logging.INFO, "request", route="a\nb", status=200)
    log.warning("one\ntwo")
    first, second = stream.getvalue().splitlines()
    assert first.endswith('INFO request route="a\\nb" status=200')
    assert second.endswith("WARNING one\\ntwo")
