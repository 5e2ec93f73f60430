from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.errors import ConfigurationError
from lepton.offline import Journal

ROWS = [3, 1, 7, 2]


def answer(number: int) -> dict[str, object]:
    return {"id": number, "text": "多" * number + "\n"}


def written(folder: Path, numbers: list[int]) -> Path:
    with Journal(folder / "answers.jsonl", "run") as journal:
        for number in numbers:
            journal.add(number, answer(number))
        return journal.path


def test_answers_are_written_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    with Journal(answers, "run") as journal:
        for number in ROWS:
            journal.add(number, answer(number))
        assert not answers.exists()
        journal.finish(sorted(ROWS))
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert lines == [answer(number) for number in sorted(ROWS)]
    assert list(tmp_path.iterdir()) == [answers]


def test_a_row_is_answered_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "answers.jsonl", "run") as journal:
        journal.add(1, answer(1))
        with pytest.raises(ValueError, match="row 1"):
            journal.add(1, answer(1))


@given(cut=st.integers(min_value=0), garbage=st.binary(max_size=30))
def test_whatever_is_torn_off_the_end_the_whole_lines_stay(
    tmp_path_factory: pytest.TempPathFactory, cut: int, garbage: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = written(folder, ROWS)
    content = path.read_bytes()
    kept = content[: len(content) - cut % len(content)]
    path.write_bytes(kept + garbage.replace(b"\n", b""))
    whole = kept.count(b"\n")
    with Journal(folder / "answers.jsonl", "run") as journal:
        expected = set(ROWS[: max(0, whole - 1)])
        assert journal.done == expected
        for number in set(ROWS) - expected:
            journal.add(number, answer(number))
        journal.finish(ROWS)
    lines = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert lines == [answer(number) for number in ROWS]


def test_another_run_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    with pytest.raises(ConfigurationError, match="another run"):
        Journal(tmp_path / "answers.jsonl", "other prompts")
    path.unlink()
    with Journal(tmp_path / "answers.jsonl", "other prompts") as journal:
        assert not journal.done


def test_two_processes_do_not_write_the_same_answers(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "answers.jsonl", "run"),
        pytest.raises(ConfigurationError, match="in use"),
    ):
        Journal(tmp_path / "answers.jsonl", "run")
    Journal(tmp_path / "answers.jsonl", "run").close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Journal(tmp_path / "none" / "answers.jsonl", "run")
