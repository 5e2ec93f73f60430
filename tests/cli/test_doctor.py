from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from lepton.cli import doctor
from lepton.models import catalogue
from lepton.telemetry.machine import inspect_machine

Run = Callable[..., Result]


def test_doctor_as_json(run: Run, home: Path) -> None:
    report = json.loads(run("doctor", "--json").stdout)
    assert report["native"]["selected"] in report["native"]["supported"]
    assert report["native"]["supported"][-1] == "scalar"
    assert 1 <= report["machine"]["threads"] <= len(os.sched_getaffinity(0))
    assert 0 < report["machine"]["usable_memory"] <= report["machine"]["memory_total"]
    assert report["models_directory"] == str(home / "models")
    assert [model["name"] for model in report["models"]] == list(catalogue.entries())
    assert not any(model["cached"] for model in report["models"])


def test_doctor_shows_a_table(run: Run, home: Path) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    for fact in ("Instruction set", "Threads", "Memory", "smollm2-135m-instruct", "8,192"):
        assert fact in result.stdout


def test_int8_keys_and_values_leave_room_for_more(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(inspect_machine(), memory_available=400_000_000)
    monkeypatch.setattr(doctor, "inspect_machine", lambda: small)
    contexts = []
    for choice in ("bf16", "int8"):
        report = json.loads(run("doctor", "--json", "--kv-dtype", choice).stdout)
        models = {item["name"]: item for item in report["models"]}
        contexts.append(models["smollm2-135m-instruct"]["largest_context"])
    assert contexts[0] < contexts[1]


def test_doctor_survives_a_wrong_instruction_set(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTON_ISA", "abacus")
    result = run("doctor")
    assert result.exit_code == 0
    assert "abacus" in result.stdout


def test_a_small_machine_fits_less(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(inspect_machine(), memory_available=400_000_000)
    monkeypatch.setattr(doctor, "inspect_machine", lambda: small)
    models = {item["name"]: item for item in json.loads(run("doctor", "--json").stdout)["models"]}
    assert 0 < models["smollm2-135m-instruct"]["largest_context"] < 8192
    assert models["qwen3-1.7b"]["largest_context"] == 0
    assert "does not fit" in run("doctor").stdout
