"""A results file is one machine's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.machine import same_machine, this_machine
from bench.results import Results


def test_a_new_file_and_one_of_this_machine_are_taken(tmp_path: Path) -> None:
    here = this_machine()
    assert same_machine({}, tmp_path / "results.json") == here
    assert same_machine(here, tmp_path / "results.json") == here
    assert same_machine(here | {"system": "Linux 6"}, tmp_path / "results.json") == here


def test_results_that_do_not_tell_their_machine_are_not_added_to(tmp_path: Path) -> None:
    noted = this_machine()
    del noted["instruction_set"]
    with pytest.raises(SystemExit, match=r"another machine .*unknown"):
        same_machine(noted, tmp_path / "results.json")


def test_no_command_adds_to_the_results_of_another_machine(
    results: Results, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"
    results.save(file)
    before = file.read_bytes()
    for name in ("run", "fidelity", "neighbours"):
        command = [sys.executable, "-m", "bench", name, "--models", "smollm2-q4_1"]
        done = subprocess.run(
            [*command, "--results", str(file)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        assert done.returncode == 1
        assert "another machine (Example 1, avx512, 2)" in done.stderr
    assert file.read_bytes() == before
