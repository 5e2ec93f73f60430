"""The results file keeps everything, and says what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.results import Results, load


def test_what_is_saved_is_loaded(tmp_path, results) -> None:
    path = tmp_path / "folder" / "results.json"
    results.save(path)
    assert load(path) == results
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_no_file_is_no_results(tmp_path) -> None:
    assert load(tmp_path / "results.json") == Results()


def test_another_format_is_refused(tmp_path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"format": 0}')
    with pytest.raises(ValueError, match="choose another --results"):
        load(path)


def test_medians_and_rounds(results) -> None:
    assert results.median("smollm2-q4_1", "decode", "lepton exact") == 100
    assert results.median("smollm2-q4_1", "idle", "lepton exact") is None
    assert results.measured("smollm2-q4_1", "decode", "llama.cpp") == 3


def test_a_failure_without_a_model_holds_for_all(results) -> None:
    assert results.failed("smollm2-q4_1", "decode", "openvino")
    assert not results.failed("smollm2-q4_1", "decode", "llama.cpp")


def test_the_best_of_several_limits_counts(results, limits) -> None:
    results.limits.append(replace(limits, bytes_per_second=30e9, float_operations_per_second=1.0))
    best = results.best_limits(2)
    assert (best.bytes_per_second, best.float_operations_per_second) == (30e9, 200e9)
    assert results.best_limits(1) is None
