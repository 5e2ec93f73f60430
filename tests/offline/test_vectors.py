"""Tables to vectors: whole, stopped in the middle, resumed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq

from lepton.data import TableReader
from lepton.engine import EmbedOptions, EncoderEngine, EngineConfig
from lepton.errors import ConfigurationError, LeptonError, RequestError
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
    assert (run.rows, run.empty, run.resumed) == (50, 1, 24)
    found = pq.read_table(target)
    assert found["row"].to_pylist() == list(range(1, 51))
    assert found["id"].to_pylist() == [str(n) for n in range(50)]
    vectors = found["embedding"].to_pylist()
    assert vectors[3] is None
    expected = encoder.embed(["w5 w6", "w54 w6"])
    np.testing.assert_array_equal(np.float32([vectors[0], vectors[49]]), expected)
    assert not list(tmp_path.glob("*.parts"))


def stop_at_once(rows: int) -> None:
    raise StopError


def _of(folder: Path, **options: object) -> EncoderEngine:
    return EncoderEngine(load_encoder(folder), EngineConfig(**{"dtype": "float32", **options}))


@pytest.fixture
def begun(encoder, table, tmp_path) -> Path:
    """The target of a run in float32 that was stopped, and another model of the same name."""
    folder = encoder.model.path
    shutil.copytree(folder, tmp_path / "bert")
    shutil.copytree(folder, tmp_path / "other" / "bert")
    weights = safetensors.numpy.load_file(tmp_path / "other" / "bert" / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] += np.float32(1)
    safetensors.numpy.save_file(weights, tmp_path / "other" / "bert" / "model.safetensors")
    config = {"prompts": {"query": "w9 ", "passage": "w10 "}, "default_prompt_name": "query"}
    for bert in (tmp_path / "bert", tmp_path / "other" / "bert"):
        (bert / "modules.json").write_text("[]")
        (bert / "config_sentence_transformers.json").write_text(json.dumps(config))
    target = tmp_path / "vectors.parquet"
    with pytest.raises(StopError):
        embed_table(
            _of(tmp_path / "bert"), TableReader(table, text="text"), target, EmbedOptions(),
            progress=stop_at_once,
        )  # fmt: skip
    return target


@pytest.mark.parametrize(
    ("model", "engine", "options"),
    [
        ("bert", {}, {"dimensions": 8}),
        ("bert", {}, {"prompt_name": "passage"}),
        ("bert", {}, {"prompt": "w9"}),
        ("bert", {}, {"prompt_name": ""}),
        ("bert", {}, {"normalize": True}),
        ("bert", {"quantize": "int8"}, {}),
        ("bert", {"executor": "reference", "dtype": "auto"}, {}),
        ("other/bert", {}, {}),
    ],
)
def test_another_run_is_not_resumed(begun, table, tmp_path, model, engine, options) -> None:
    encoder, reader = _of(tmp_path / model, **engine), TableReader(table, text="text")
    with pytest.raises(ConfigurationError, match="belongs to another run"):
        embed_table(encoder, reader, begun, EmbedOptions(**options))


def test_the_same_run_is_resumed_by_other_ways_to_say_the_same(begun, table, tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "bert")
    (tmp_path / "texts-link.csv").symlink_to(table)
    reader = TableReader(tmp_path / "texts-link.csv", text="text")
    assert embed_table(_of(tmp_path / "link"), reader, begun, EmbedOptions()).rows == 50


def test_another_table_is_not_resumed(begun, table, tmp_path) -> None:
    table.write_text(table.read_text().replace("w54", "w55"))
    with pytest.raises(ConfigurationError, match="belongs to another run"):
        embed_table(_of(tmp_path / "bert"), TableReader(table, text="text"), begun, EmbedOptions())


def test_options_that_are_refused_leave_nothing(encoder, table, tmp_path) -> None:
    target = tmp_path / "vectors.parquet"
    with pytest.raises(RequestError, match="no prompt 'passage'"):
        embed_table(
            encoder, TableReader(table, text="text"), target, EmbedOptions(prompt_name="passage")
        )
    assert [path.name for path in tmp_path.iterdir()] == ["texts.csv"]


def test_two_processes_do_not_share_parts(encoder, table, tmp_path) -> None:
    target = tmp_path / "vectors.parquet"
    arguments = (encoder, TableReader(table, text="text"), target, EmbedOptions())

    def embed_again(rows: int) -> None:
        with pytest.raises(ConfigurationError, match="another process is writing these vectors"):
            embed_table(*arguments)

    assert embed_table(*arguments, progress=embed_again).rows == 50


def test_a_torn_note_is_that_of_a_new_run(encoder, table, tmp_path) -> None:
    folder = tmp_path / "vectors.parquet.parts"
    folder.mkdir()
    (folder / "run.json").write_text('{"ru')
    (folder / "00000009.parquet").write_bytes(b"of nobody knows what")
    run = embed_table(
        encoder, TableReader(table, text="text"), tmp_path / "vectors.parquet", EmbedOptions()
    )
    assert (run.rows, run.resumed) == (50, 0)
    assert pq.read_table(tmp_path / "vectors.parquet").num_rows == 50
    assert not folder.exists()


def test_rows_are_found_again_beside_rows_that_cannot_be_read(encoder, tmp_path) -> None:
    table = tmp_path / "bad.csv"
    table.write_text('id,text\n1,w5\n2,a,b,c,d\n\n3,w6\n4,"open\n5,w7\n')
    target = tmp_path / "vectors.parquet"
    run = embed_table(encoder, TableReader(table, text="text"), target, EmbedOptions(), keep=["id"])
    found = pq.read_table(target)
    assert found["id"].to_pylist() == ["1", "3", "5"]
    assert found["row"].to_pylist() == [1, 2, 3]
    assert found["line"].to_pylist() == [2, 5, 7]
    assert (run.rows, run.unreadable, run.mended) == (3, 2, 0)


def test_columns_and_files_that_cannot_be(encoder, table, tmp_path) -> None:
    target = tmp_path / "vectors.parquet"
    reader = TableReader(table, text="text")
    with pytest.raises(ConfigurationError, match="no column 'price' to keep"):
        embed_table(encoder, reader, target, EmbedOptions(), keep=["price"])
    own = tmp_path / "lines.csv"
    own.write_text("line,text\n7,w5\n")
    with pytest.raises(ConfigurationError, match="the result has one of its own"):
        embed_table(encoder, TableReader(own, text="text"), target, EmbedOptions(), keep=["line"])
    target.touch()
    with pytest.raises(LeptonError, match="is not written over"):
        embed_table(encoder, reader, target, EmbedOptions())


KILLED = """
import os, shutil, signal, sys
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
elif moment == "removing":
    progress = None
    shutil.rmtree = lambda folder: die_after(1)
else:
    progress, replace = None, Path.replace
    def replace_or_die(self, other):
        die_after(5 if moment == "renaming" else 9)  # the note, seven parts, then the result
        return replace(self, other)
    Path.replace = replace_or_die
encoder = EncoderEngine(load_encoder(model), EngineConfig(threads=1))
embed_table(encoder, TableReader(table, text="text"), Path(target), EmbedOptions(),
            part_rows=8, progress=progress)
"""
"""Ends itself with SIGKILL in the fourth part of seven, when all are there, or at the very end."""


@pytest.mark.parametrize(
    ("moment", "resumed"),
    [("computing", 16), ("renaming", 24), ("joining", 50), ("removing", 50)],
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
    assert target.exists() == (moment == "removing")
    run = embed_table(encoder, TableReader(table, text="text"), target, EmbedOptions(), part_rows=8)
    assert (run.rows, run.empty, run.resumed) == (50, 1, resumed)
    assert not list(tmp_path.glob("*.parts"))
    found = pq.read_table(target)
    assert found["row"].to_pylist() == list(range(1, 51))
    vectors = found["embedding"].to_pylist()
    assert vectors[3] is None
    texts = [f"w{5 + n} w6" for n in range(50) if n != 3]
    np.testing.assert_array_equal(
        np.array([each for each in vectors if each is not None], np.float32), encoder.embed(texts)
    )
