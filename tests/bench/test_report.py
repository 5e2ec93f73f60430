"""The report is made from the results alone."""

from __future__ import annotations

import pytest
from bench.report import write_report
from bench.tables import best_format_table, scaling_table, speed_table


def cells(table) -> dict[str, dict[str, str]]:
    """The rows of a table by their first cell, each by column."""
    return {row[0]: dict(zip(table.headers, row, strict=True)) for row in table.rows}


def test_shares_of_the_limit_and_ratios(results) -> None:
    decode = cells(speed_table(results, "smollm2-q4_1"))["decode, 1 stream"]
    assert decode["limit"] == "199.8"
    assert decode["lepton exact"] == "100.0 (50%)"
    assert decode["lepton fast"] == "120.0 (60%)"
    assert decode["llama.cpp"] == "50.0 (2.00 / 2.40 ×)"


def test_a_peer_is_met_at_its_best_format(results) -> None:
    decode = cells(best_format_table(results, "smollm2", "llama.cpp"))["decode, 1 stream"]
    assert decode["llama.cpp"] == "75.0 Q4_0"
    assert decode["lepton fast"].endswith("(1.60 ×)")


def test_scaling_names_both_speeds(results) -> None:
    row = scaling_table(results).rows[0]
    assert row[2:] == ("lepton fast", "60.0", "120.0", "2.00 ×")


def test_the_report_tells_everything(tmp_path, results) -> None:
    pytest.importorskip("matplotlib")
    report = tmp_path / "docs" / "performance.md"
    write_report(results, tmp_path / "docs" / "performance" / "results.json", report)
    text = report.read_text()
    for told in (
        "[performance/results.json](performance/results.json)",
        "Example 1, 2 threads",
        "| llama.cpp | 1.2 | 2 |",
        "## SmolLM2-135M Q4_1",
        "## Threads",
        "0.50 s",
        "150 MB",
        "two sockets were not measured",
        "pip \\| failed",
    ):
        assert told in text, told
    for instruction_set, planned in (("avx512", True), ("avx2", False)):
        results.machine["instruction_set"] = instruction_set
        write_report(results, tmp_path / "docs" / "performance" / "results.json", report)
        assert ("| lepton fast, AVX2 |" in report.read_text()) == planned
    for name in ("decode", "prefill-512"):
        picture = report.with_suffix("") / f"{name}.svg"
        assert picture.read_text().startswith("<?xml")
        assert f"](performance/{name}.svg)" in text


def test_the_same_results_give_the_same_files(tmp_path, results) -> None:
    pytest.importorskip("matplotlib")
    pictures = []
    for folder in ("a", "b"):
        write_report(results, tmp_path / "results.json", tmp_path / folder / "performance.md")
        pictures.append((tmp_path / folder / "performance" / "decode.svg").read_bytes())
    assert pictures[0] == pictures[1]
