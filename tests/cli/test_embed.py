"""`lepton embed`, whole and killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq

from lepton.engine import LLM
from lepton.offline.vectors import PART_ROWS

sys.path.append(str(Path(__file__).parents[1] / "models"))
from encoder_samples import save_bert

Run = Callable[..., Result]
Launch = Callable[..., "subprocess.CompletedProcess[str]"]

ROWS = 3 * PART_ROWS + 100

STUCK = """
import signal
from pathlib import Path
from lepton.cli import main

replace, parts = Path.replace, []

def replace_or_wait(self, other):
    if Path(other).suffix == ".parquet":
        parts.append(other)
    if len(parts) == 3:
        print("stuck", flush=True)
        signal.pause()
    return replace(self, other)

Path.replace = replace_or_wait
main()
"""
"""The command, which waits for its end with the third part written and not yet in place."""


def test_a_killed_command_goes_on_with_no_row_lost_or_doubled(
    launch: Launch, tmp_path: Path
) -> None:
    folder, table, target = tmp_path / "bert", tmp_path / "texts.csv", tmp_path / "vectors.parquet"
    folder.mkdir()
    save_bert(folder)
    texts = [f"w{5 + n % 190} w{5 + n // 190}" for n in range(ROWS)]
    table.write_text("text\n" + "\n".join(texts) + "\n")
    arguments = ["embed", str(table), "--out", str(target), "--column", "text", "--keep", "text"]
    arguments += ["--model", str(folder), "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "stuck\n"
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()
    result = launch(*arguments)
    assert result.returncode == 0, result.stderr
    assert f"{ROWS:,} rows" in result.stderr
    assert f"{2 * PART_ROWS:,} from an earlier run" in result.stderr
    found = pq.read_table(target)
    assert found["row"].to_pylist() == list(range(1, ROWS + 1))
    assert found["text"].to_pylist() == texts
    with LLM(folder, threads=1) as llm:
        expected = llm.embed(texts)
    vectors = found["embedding"].combine_chunks().flatten().to_numpy().reshape(ROWS, -1)
    np.testing.assert_array_equal(vectors, expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bert", "texts.csv", "vectors.parquet"
    ]  # fmt: skip


@pytest.fixture
def prompted(tmp_path: Path) -> Path:
    """An encoder with a default prompt."""
    folder = save_bert(tmp_path)
    (folder / "modules.json").write_text("[]")
    prompts = {"prompts": {"query": "w9 ", "passage": "w10 "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return folder


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        ((), "w9 w5", True),
        (("--prompt-name", "passage"), "w10 w5", False),
        (("--prompt-name", ""), "w5", False),
        (("--prompt-text", ""), "w5", False),
        (("--prompt-text", "w11 "), "w11 w5", False),
    ],
)
def test_the_prompt_is_chosen_and_a_default_one_is_told(
    run: Run, prompted: Path, tmp_path: Path, arguments: tuple[str, ...], text: str, told: bool
) -> None:
    table, target = tmp_path / "texts.csv", tmp_path / "vectors.parquet"
    table.write_text("text\nw5\n")
    result = run("embed", str(table), "--out", str(target), "--model", str(prompted), *arguments)
    assert result.exit_code == 0, result.output
    assert ("default prompt query: 'w9 '; others (--prompt-name): passage" in result.output) == told
    with LLM(prompted) as llm:
        expected = llm.embed(text, prompt_name="")
    np.testing.assert_array_equal(pq.read_table(target)["embedding"].to_pylist(), expected)


def test_a_prompt_and_the_name_of_one_are_refused(run: Run, prompted: Path, tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text("text\nw5\n")
    both = ["--prompt-name", "query", "--prompt-text", "w11 "]
    result = run(
        "embed", str(table), "--out", str(tmp_path / "v.parquet"), "--model", str(prompted), *both
    )
    assert result.exit_code == 2
    assert "not both" in result.output


def test_rows_that_could_not_be_read_are_told(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "bad.csv"
    table.write_text("id,text\n1,w5\n2,a,b,c,d\n3,w6\n")
    model, target = save_bert(tmp_path), tmp_path / "vectors.parquet"
    result = run("embed", str(table), "--out", str(target), "--model", str(model))
    assert result.exit_code == 0, result.output
    assert "bad.csv: 1 rows could not be read" in result.output
    assert f"lepton data profile {table} lists them" in result.output
    assert pq.read_table(target)["line"].to_pylist() == [2, 4]
