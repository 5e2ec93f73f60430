from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
Launch = Callable[..., "subprocess.CompletedProcess[str]"]

QUESTION = "What is the capital of France?"


def test_answer_is_printed(launch: Launch, smollm2_path: Path) -> None:
    result = launch(
        "run", str(smollm2_path), "-p", QUESTION, "--temperature", "0", "--max-tokens", "16"
    )
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout
    assert result.stdout.endswith("\n")
    assert result.stderr == ""


def test_prompt_from_standard_input_as_json(run: Run, smollm2_path: Path) -> None:
    arguments = ("run", str(smollm2_path), "--json", "--temperature", "0", "--max-tokens", "4")
    answer = json.loads(run(*arguments, stdin=QUESTION).stdout)
    assert answer["finish_reason"] == "length"
    assert len(answer["token_ids"]) == answer["usage"]["completion_tokens"] == 4
    assert answer["usage"]["prompt_tokens"] > 20
    assert answer["text"]


def test_raw_continues_the_text(run: Run, smollm2_path: Path) -> None:
    text = "The capital of France is"
    arguments = ("--raw", "--json", "--temperature", "0", "--max-tokens", "3")
    answer = json.loads(run("run", str(smollm2_path), "-p", text, *arguments).stdout)
    assert "Paris" in answer["text"]
    assert answer["usage"]["prompt_tokens"] < 10


def test_a_stop_text_ends_the_answer(run: Run, smollm2_path: Path) -> None:
    arguments = ("--temperature", "0", "--stop", " Paris", "--json")
    answer = json.loads(run("run", str(smollm2_path), "-p", QUESTION, *arguments).stdout)
    assert answer["finish_reason"] == "stop"
    assert "Paris" not in answer["text"]


def test_a_seed_repeats_the_answer(run: Run, smollm2_path: Path) -> None:
    arguments = ("run", str(smollm2_path), "-p", QUESTION, "--max-tokens", "12", "--seed")
    first, second, other = (run(*arguments, seed).stdout for seed in ("7", "7", "8"))
    assert first == second
    assert first != other


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-p", ""], "the prompt is empty"),
        (["-p", "x", "--raw", "--system", "y"], "--raw"),
        (["-p", "x", "--repetition-penalty", "0"], "repetition_penalty"),
        (["-p", "x", "--context-length", "999999"], "context_length"),
        (["-p", "word " * 300, "--context-length", "256"], "256"),
    ],
)
def test_bad_requests_are_one_line(
    run: Run, smollm2_path: Path, arguments: list[str], reason: str
) -> None:
    result = run("run", str(smollm2_path), *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_base_model_takes_no_system_prompt(run: Run, gemma3_path: Path) -> None:
    result = run("run", str(gemma3_path), "-p", "x", "--system", "y")
    assert result.exit_code == 2
    assert "chat template" in result.stderr
