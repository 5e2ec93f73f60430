"""The client counts what a server sends, and the search for a rate finds it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from types import SimpleNamespace
from typing import Any

import pytest
from bench.serving import workloads
from bench.serving.client import Call, Reply, Report, run_calls
from bench.serving.report import write_report
from bench.serving.suite import ServingResults, load_results
from bench.serving.targets import targets


@pytest.fixture
def port() -> Iterator[int]:
    """Streams three events of two tokens; refuses prompts that say so; breaks others off."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if b"refuse" in body:
                self.send_response(429)
                self.send_header("Retry-After", "7")
                self.end_headers()
                self.wfile.write(b'{"error": {"message": "busy"}}')
                return
            self.send_response(200)
            self.end_headers()
            for number in range(3):
                self._event(b'{"choices":[{"text":"t%d "}]}' % number)
                time.sleep(0.05)
                if b"break" in body:
                    return
            self._event(
                b'{"choices":[],"usage":{"completion_tokens":6,'
                b'"prompt_tokens_details":{"cached_tokens":4}}}'
            )
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, data: bytes) -> None:
            self.wfile.write(b"data: " + data + b"\n\n")
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_replies_are_counted_and_timed(port: int) -> None:
    calls = [Call({"prompt": "a"}), Call({"prompt": "b"}, at=0.2), Call({"prompt": "refuse"})]
    report = run_calls(port, "/v1/completions", [*calls, Call({"prompt": "break"})])
    first, second, refused, broken = report.replies
    assert (first.status, first.complete, first.tokens, first.cached_tokens) == (200, True, 6, 4)
    assert (len(first.events), first.text) == (3, "t0 t1 t2 ")
    assert all(gap > 0.02 for gap in first.gaps)
    assert second.sent - first.sent > 0.15
    assert (refused.status, refused.retry_after, refused.complete) == (429, 7, False)
    assert (broken.complete, broken.status) == (False, 200)
    assert report.answered == [first, second]
    assert report.tokens_per_second == pytest.approx(12 / report.seconds)
    assert report.client_seconds > 0


def test_calls_are_broken_off_when_it_is_enough(port: int) -> None:
    seen: list[Reply] = []

    def enough(reply: Reply) -> bool:
        seen.append(reply)
        return len(seen) == 2

    calls = [Call({"prompt": "a"}), Call({"prompt": "refuse"}), Call({"prompt": "b"}, at=1e6)]
    report = run_calls(port, "/v1/completions", calls, enough)
    assert [reply.status for reply in report.replies] == [200, 429, 0]
    assert sorted(reply.status for reply in seen) == [200, 429]


def test_no_server_is_an_error_of_the_call() -> None:
    (reply,) = run_calls(9, "/", [Call({})]).replies
    assert (reply.status, reply.complete) == (0, False)
    assert reply.error


@pytest.mark.parametrize("limit", [0.7, 3.0, 5.5])
def test_the_search_for_a_rate_closes_in(limit: float, monkeypatch: Any) -> None:
    def run(server: Any, calls: Any, enough: Any) -> Any:
        at = [call.at for call in calls]
        wait = 0.1 if rate_of(at) <= limit else 3.0
        reply = Reply(0.0, status=200, complete=True, events=[wait, wait + 0.1])
        replies = [reply for _ in takewhile(lambda _: not enough(reply), calls)]
        return Report(replies, 1.0, 0.0)

    server = SimpleNamespace(completion=lambda *_: {})
    lengths = {}

    def times(rate: float, seconds: float, seed: int) -> Any:
        found = [number / rate for number in range(1, int(rate * seconds))]
        lengths[found[0]] = rate
        return found

    def rate_of(at: list[float]) -> float:
        return lengths[at[0]]

    monkeypatch.setattr(workloads, "_times", times)
    monkeypatch.setattr(workloads, "run", run)
    trials = workloads.highest_rate(server, [[1]] * 40, 3.0, trials=10, seconds=40)
    best = max(trial.rate for trial in trials if trial.good == 1)
    assert limit * 0.97 <= best <= limit


def test_quantiles() -> None:
    assert math.isnan(workloads.quantile([], 0.5))
    assert workloads.quantile([3.0, 1.0, 2.0], 0.5) == 2
    assert workloads.quantile([1.0], 0.99) == 1


def test_results_are_kept_and_reported(tmp_path: Any) -> None:
    file = tmp_path / "results.json"
    results = ServingResults({"processor": "P", "instruction_set": "avx2", "threads": 2})
    for number, speed in enumerate((100.0, 300.0, 200.0), start=1):
        figures = {
            "tokens_per_second": speed,
            "seconds": 2.0,
            "client_seconds": 0.1,
            "good_at_1.00": 1.0,
        }
        results.samples.append(
            {"workload": "closed", "engine": "lepton exact", "round": number, "figures": figures}
        )
    results.save(file)
    assert load_results(file) == results
    peer = {"workload": "closed", "engine": "llama-server", "round": 1}
    results.samples.append({**peer, "figures": {"tokens_per_second": 80.0}})
    write_report(results, tmp_path / "measured.md")
    page = (tmp_path / "measured.md").read_text()
    assert "| lepton exact | 3 | 200 |" in page
    assert "good" not in page.split("## ")[2]
    assert "tokens/s / those of llama-server | 2.50 | ≥ 2.6 |" in page


def test_losses_refusals_memory_and_recovery_are_among_the_targets() -> None:
    calm = {"gap_ratio": 2.0, "offered": 64.0, "answered": 63.0}
    flood = {"offered": 900.0, "admitted": 100.0, "refused_with_retry_after": 780.0}
    flood |= {"memory_growth_bytes": 3.0 * 2**20, "first_token_afterwards": 0.4}
    results = ServingResults(machine={}, samples=[])
    for workload, figures in (("poisson", calm), ("overload", flood)):
        sample = {"workload": workload, "engine": "lepton exact", "round": 1, "figures": figures}
        results.samples.append(sample)
    found = {title: value for title, value, _ in targets(results)}
    assert found["lepton exact, Poisson at 80 %: requests lost"] == "1"
    assert found["10 × overload: not admitted and told when to retry"] == "97.5%"
    assert found["10 × overload: growth of memory, MiB"] == "3"
    assert found["Two seconds after it: time to first token, s"] == "0.40"


def test_aims_tell_lookup_by_kind_and_a_peer_that_serves_nothing_well() -> None:
    results = ServingResults()
    for workload, engine, figures in (
        ("slo", "lepton exact", {"rate": 1.5}),
        ("slo", "llama-server", {"rate": 0.0}),
        ("lookup", "edit", {"ratio": 1.9}),
        ("lookup", "free chat", {"ratio": 1.0}),
    ):
        results.samples.append(
            {"workload": workload, "engine": engine, "round": 1, "figures": figures}
        )
    found = {title: (value, aim) for title, value, aim in targets(results)}
    assert found["Prompt lookup on / off, edit: tokens/s"] == ("1.90", "≥ 1.5")
    assert found["Prompt lookup on / off, free chat: tokens/s"] == ("1.00", "≥ 0.97")
    (served,) = (value for title, value in found.items() if "served none well" in title)
    assert served == ("1.50", "≥ 2 ×")
