from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count

import pytest
from typer.testing import Result

from lepton.cli.top import sparkline

Run = Callable[..., Result]

PAGE = """# TYPE lepton_num_requests_running gauge
lepton_num_requests_running{{model_name="smol"}} 7
# TYPE lepton_kv_cache_usage_perc gauge
lepton_kv_cache_usage_perc{{model_name="smol"}} 0.25
# TYPE lepton_generation_tokens counter
lepton_generation_tokens_total{{model_name="smol"}} {tokens}
# TYPE lepton_key_requests counter
lepton_key_requests_total{{key="desk"}} {tokens}
lepton_key_requests_total{{key="shop"}} 3
"""


@pytest.fixture
def url() -> Iterator[str]:
    """A server that has generated a million more tokens each time it is asked."""
    readings = count()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(PAGE.format(tokens=1_000_000 * next(readings)).encode())

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_one_view(run: Run, url: str) -> None:
    result = run("top", url, "--once", "--interval", "0.1")
    assert result.exit_code == 0, result.stderr
    assert "smol" in result.stdout
    assert "25%" in result.stdout
    assert "Streams" in result.stdout
    assert result.stdout.index("desk") < result.stdout.index("shop"), "the busiest comes first"


def test_figures_as_json(run: Run, url: str) -> None:
    found = json.loads(run("top", url, "--json", "--interval", "0.1").stdout)
    assert (found["model"], found["running"]) == ("smol", 7)
    assert 0 < found["generated_per_second"] <= 1_000_000 / 0.1
    assert found["first_token_p99"] is None
    assert found["keys"]["desk"]["requests_per_second"] > 0
    assert found["keys"]["shop"]["requests_per_second"] == 0


def test_no_server_is_one_line(run: Run) -> None:
    result = run("top", "http://127.0.0.1:9", "--once")
    assert result.exit_code == 1
    assert "no metrics from http://127.0.0.1:9" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_sparkline() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "  "
    assert sparkline([0, 4, 8]) == " ▄█"
