"""Whole runs on the real model, whole or killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lepton.engine import LLM, SamplingParams
from lepton.errors import ConfigurationError, RequestError
from lepton.offline import run_file, runner
from lepton.offline.rows import Row

GREEDY = SamplingParams(temperature=0, max_tokens=12)
TOPICS = ["cats", "rivers", "bread", "Rome", "chess", "rain", "music", "trains"]


@pytest.fixture(scope="module")
def llm(smollm2_path: Path) -> Iterator[LLM]:
    with LLM(smollm2_path, context_length=512, max_sequences=4, cache_memory=64 * 2**20) as llm:
        yield llm


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_are_those_of_generate_in_the_order_of_the_rows(llm: LLM, tmp_path: Path) -> None:
    rows = [{"id": topic, "prompt": f"Tell me about {topic}."} for topic in TOPICS]
    rows[2]["max_tokens"] = 3
    rows[5] = {"id": "long", "prompt": "word " * 600}
    seen: list[tuple[int, int, int]] = []
    summary = run_file(
        llm,
        write(tmp_path / "prompts.jsonl", rows),
        tmp_path / "answers.jsonl",
        GREEDY,
        raw=True,
        progress=lambda *counts: seen.append(counts),
    )
    answers = read(tmp_path / "answers.jsonl")
    assert [each["id"] for each in answers] == [row["id"] for row in rows]
    assert answers[5]["error"]["code"] == "context_length_exceeded"
    assert answers[2]["usage"]["completion_tokens"] == 3
    (alone,) = llm.generate(rows[0]["prompt"], GREEDY)
    assert answers[0]["text"] == alone.outputs[0].text
    assert (summary.rows, summary.resumed, summary.failed) == (8, 0, 1)
    assert seen[0] == (0, 8, 0)
    assert seen[-1] == (8, 8, summary.completion_tokens)


def test_messages_and_system_prompts_go_through_the_template(llm: LLM, tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    rows = [{"messages": messages}, {"prompt": messages[1]["content"]}]
    source = write(tmp_path / "prompts.jsonl", rows)
    run_file(llm, source, tmp_path / "answers.jsonl", GREEDY, system="Be brief.")
    first, second = read(tmp_path / "answers.jsonl")
    assert first["text"] == second["text"]
    assert "Paris" in first["text"]


def test_an_interrupted_run_goes_on_and_another_is_refused(llm: LLM, tmp_path: Path) -> None:
    class EnoughError(Exception):
        pass

    def stop_after_three(done: int, total: int, tokens: int) -> None:
        if done == 3:
            raise EnoughError

    rows = [{"prompt": f"Tell me about {topic}."} for topic in TOPICS]
    source, answers = write(tmp_path / "prompts.jsonl", rows), tmp_path / "answers.jsonl"
    with pytest.raises(EnoughError):
        run_file(llm, source, answers, GREEDY, progress=stop_after_three)
    assert not answers.exists()
    with pytest.raises(ConfigurationError, match="another run"):
        run_file(llm, source, answers, SamplingParams(temperature=0, max_tokens=13))
    summary = run_file(llm, source, answers, GREEDY)
    assert (summary.rows, summary.resumed) == (8, 3)
    whole = tmp_path / "whole.jsonl"
    run_file(llm, source, whole, GREEDY)
    assert _texts(answers) == _texts(whole)


def _texts(path: Path) -> list[Any]:
    """All but how much came from the cache."""
    return [(each["id"], each["text"], each["finish_reason"]) for each in read(path)]


def test_the_context_that_memory_allows_may_differ_when_a_run_goes_on(
    smollm2_path: Path, tmp_path: Path
) -> None:
    class EnoughError(Exception):
        pass

    def stop_after_one(done: int, total: int, tokens: int) -> None:
        if done == 1:
            raise EnoughError

    rows = [{"prompt": f"Tell me about {topic}."} for topic in TOPICS]
    source, answers = write(tmp_path / "prompts.jsonl", rows), tmp_path / "answers.jsonl"
    with (
        LLM(smollm2_path, max_sequences=4, cache_memory=16 * 2**20) as roomy,
        pytest.raises(EnoughError),
    ):
        run_file(roomy, source, answers, GREEDY, progress=stop_after_one)
    with LLM(smollm2_path, max_sequences=4, cache_memory=12 * 2**20) as tight:
        assert tight.context_length < roomy.context_length
        assert run_file(tight, source, answers, GREEDY).resumed >= 1


def test_completions_that_fail_are_tried_again_at_the_end(
    llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, failures = llm._core.executor.forward, 5

    def failing_forward(batch: Any) -> Any:
        nonlocal failures
        if failures > 0:
            failures -= 1
            raise RuntimeError("a passing fault")
        return forward(batch)

    rows = [{"prompt": f"Tell me about {topic}."} for topic in TOPICS]
    source, answers = write(tmp_path / "prompts.jsonl", rows), tmp_path / "answers.jsonl"
    monkeypatch.setattr(llm._core.executor, "forward", failing_forward)
    summary = run_file(llm, source, answers, GREEDY)
    assert (failures, summary.rows, summary.failed) == (0, 8, 0)
    assert all(each["text"] for each in read(answers))
    failures = 1_000_000
    summary = run_file(llm, source, answers, GREEDY)
    assert summary.failed == 8
    assert {each["error"]["code"] for each in read(answers)} == {"internal_error"}


def test_a_row_that_cannot_be_prepared_does_not_stop_the_others(
    llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = runner._tokens

    def failing_tokens(llm: LLM, row: Row, *options: Any) -> list[int]:
        if row.id == "Rome":
            raise RuntimeError("secret")
        return tokens(llm, row, *options)

    monkeypatch.setattr(runner, "_tokens", failing_tokens)
    rows = [{"id": topic, "prompt": f"Tell me about {topic}."} for topic in TOPICS]
    source, answers = write(tmp_path / "prompts.jsonl", rows), tmp_path / "answers.jsonl"
    assert run_file(llm, source, answers, GREEDY).failed == 1
    found = {each["id"]: each for each in read(answers)}
    assert found.pop("Rome")["error"] == {
        "message": "internal error (RuntimeError)",
        "code": "internal_error",
    }
    assert all(each["text"] for each in found.values())


def test_a_run_does_not_go_on_with_other_weights(smollm2_path: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.symlink_to(smollm2_path)
    source = write(tmp_path / "prompts.jsonl", [{"prompt": topic} for topic in TOPICS])
    answers = tmp_path / "answers.jsonl"
    options = {"context_length": 512, "max_sequences": 2, "cache_memory": 64 * 2**20}
    with LLM(model, **options) as first, pytest.raises(ZeroDivisionError):
        run_file(first, source, answers, GREEDY, progress=lambda done, *_: 1 // (3 - done))
    model.unlink()
    shutil.copyfile(smollm2_path, model)
    with LLM(model, **options) as second, pytest.raises(ConfigurationError, match="another run"):
        run_file(second, source, answers, GREEDY)


@pytest.mark.parametrize("name", ["prompts.jsonl", "linked", "prompts"])
def test_answers_may_not_overwrite_their_prompts(llm: LLM, tmp_path: Path, name: str) -> None:
    rows = json.dumps({"prompt": "Once"})
    source = tmp_path / ("prompts.partial" if name == "prompts" else "prompts.jsonl")
    source.write_text(rows)
    (tmp_path / "linked").symlink_to(source)
    with pytest.raises(ConfigurationError, match="overwrite"):
        run_file(llm, source, tmp_path / name, GREEDY)
    assert source.read_text() == rows


def test_a_bad_line_is_told_before_anything_is_computed(llm: LLM, tmp_path: Path) -> None:
    source = write(tmp_path / "prompts.jsonl", [{"prompt": "x"}, {}])
    with pytest.raises(RequestError, match="line 2"):
        run_file(llm, source, tmp_path / "answers.jsonl", GREEDY)
    assert list(tmp_path.iterdir()) == [source]


def test_kill_minus_9_loses_and_doubles_no_row(smollm2_path: Path, tmp_path: Path) -> None:
    rows = [{"id": f"row {n}", "prompt": f"Count to {n}, please."} for n in range(48)]
    source, answers = write(tmp_path / "prompts.jsonl", rows), tmp_path / "answers.jsonl"
    command = [sys.executable, "-m", "lepton", "run", str(smollm2_path)]
    command += ["--input", str(source), "--out", str(answers), "--temperature", "0"]
    command += ["--max-tokens", "16", "--max-sequences", "4", "--context-length", "256"]
    partial = tmp_path / "answers.jsonl.partial"
    left = []
    for least in (5, 20):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while not partial.exists() or partial.read_bytes().count(b"\n") <= least:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not answers.exists()
        left.append(partial.read_bytes().count(b"\n") - 1)
    assert 5 <= left[0] < 48
    assert left[0] <= left[1]
    end = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert end.returncode == 0, end.stderr
    assert f"{left[1]} of them from an earlier run" in end.stderr
    assert [each["id"] for each in read(answers)] == [row["id"] for row in rows]
    assert not partial.exists()
    whole = tmp_path / "whole.jsonl"
    subprocess.run([*command, "--out", str(whole)], check=True, timeout=240)
    assert _texts(answers) == _texts(whole)
