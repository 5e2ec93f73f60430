"""`lepton embed`, whole and killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq

from lepton.engine import LLM
from lepton.offline.vectors import PART_ROWS

sys.path.append(str(Path(__file__).parents[1] / "models"))
from encoder_samples import save_bert

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
