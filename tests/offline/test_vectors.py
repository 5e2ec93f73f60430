"""Tables to vectors: whole, stopped in the middle, resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq

from lepton.data import TableReader
from lepton.engine import EmbedOptions, EncoderEngine, EngineConfig
from lepton.errors import ConfigurationError, LeptonError
from lepton.models.encoder_loader import load_encoder
from lepton.offline.vectors import embed_table

sys.path.append(str(Path(__file__).parents[1] / "models"))
from encoder_samples import save_bert


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> EncoderEngine:
    return EncoderEngine(load_encoder(save_bert(tmp_path_factory.mktemp("bert"))), EngineConfig())


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "texts.csv"
    rows = [f"{n},{'' if n == 3 else f'w{5 + n} w6'}" for n in range(50)]
    path.write_text("id,text\n" + "\n".join(rows) + "\n")
    return path


class StopError(Exception):
    pass


def test_a_stopped_run_goes_on(encoder, table, tmp_path) -> None:
    done = 0

    def stop(rows: int) -> None:
        nonlocal done
        done += rows
        if done >= 25:
            raise StopError

    target = tmp_path / "vectors.parquet"
    arguments = (encoder, TableReader(table, text="text"), target, EmbedOptions())
    with pytest.raises(StopError):
        embed_table(*arguments, keep=["id"], part_rows=8, progress=stop)
    assert not target.exists()
    run = embed_table(*arguments, keep=["id"], part_rows=8)
    assert (run.rows, run.empty, run.resumed) == (50, 1 - (run.resumed > 3), run.resumed)
    assert run.resumed in (16, 24)
    found = pq.read_table(target)
    assert found["row"].to_pylist() == list(range(1, 51))
    assert found["id"].to_pylist() == [str(n) for n in range(50)]
    vectors = found["embedding"].to_pylist()
    assert vectors[3] is None
    expected = encoder.embed(["w5 w6", "w54 w6"])
    np.testing.assert_array_equal(np.float32([vectors[0], vectors[49]]), expected)
    assert not list(tmp_path.glob("*.parts"))


def test_another_run_is_not_resumed(encoder, table, tmp_path) -> None:
    target = tmp_path / "vectors.parquet"
    reader = TableReader(table, text="text")

    def stop(rows: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        embed_table(encoder, reader, target, EmbedOptions(), progress=stop)
    with pytest.raises(ConfigurationError, match="belongs to another run"):
        embed_table(encoder, reader, target, EmbedOptions(dimensions=8))


def test_columns_and_files_that_cannot_be(encoder, table, tmp_path) -> None:
    target = tmp_path / "vectors.parquet"
    reader = TableReader(table, text="text")
    with pytest.raises(ConfigurationError, match="no column 'price' to keep"):
        embed_table(encoder, reader, target, EmbedOptions(), keep=["price"])
    target.touch()
    with pytest.raises(LeptonError, match="is not written over"):
        embed_table(encoder, reader, target, EmbedOptions())


KILLED = """
import os, signal, sys
from pathlib import Path
from lepton.data import TableReader
from lepton.engine import EmbedOptions, EncoderEngine, EngineConfig
from lepton.models.encoder_loader import load_encoder
from lepton.offline.vectors import embed_table

model, table, target, moment = sys.argv[1:]
seen = 0

def die_after(most):
    global seen
    seen += 1
    if seen == most:
        os.kill(os.getpid(), signal.SIGKILL)

if moment == "computing":
    progress = lambda rows: die_after(4)
else:
    progress, replace = None, Path.replace
    def replace_or_die(self, other):
        die_after(4 if moment == "renaming" else 8)  # seven parts, then the result
        return replace(self, other)
    Path.replace = replace_or_die
encoder = EncoderEngine(load_encoder(model), EngineConfig(threads=1))
embed_table(encoder, TableReader(table, text="text"), Path(target), EmbedOptions(),
            part_rows=8, progress=progress)
"""
"""Ends itself with SIGKILL in the fourth part of seven, or when all are there."""


@pytest.mark.parametrize(
    ("moment", "resumed"), [("computing", 16), ("renaming", 24), ("joining", 50)]
)
def test_a_killed_process_loses_and_doubles_no_row(
    moment, resumed, encoder, table, tmp_path
) -> None:
    target = tmp_path / "vectors.parquet"
    arguments = [encoder.model.path, table, target, moment]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not target.exists()
    run = embed_table(encoder, TableReader(table, text="text"), target, EmbedOptions(), part_rows=8)
    assert (run.rows, run.resumed) == (50, resumed)
    found = pq.read_table(target)
    assert found["row"].to_pylist() == list(range(1, 51))
    vectors = found["embedding"].to_pylist()
    assert vectors[3] is None
    texts = [f"w{5 + n} w6" for n in range(50) if n != 3]
    np.testing.assert_array_equal(
        np.array([each for each in vectors if each is not None], np.float32), encoder.embed(texts)
    )
