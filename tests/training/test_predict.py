from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lepton.data.reading import TableReader
from lepton.errors import ConfigurationError, DataError, RequestError
from lepton.training import TrainingConfig, make_dataset, predict, train
from lepton.training.dataset import Dataset
from lepton.training.predict import Scored, predict_file
from lepton.training.trained_model import Prediction, TrainedModel


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text"])
        for row in range(5000):
            text = ('refund, "money"', "快递\n物流", "size small", "")[row % 4]
            writer.writerow([row, text])
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_row_is_scored_in_order(linear_run: Path, table: Path, tmp_path: Path) -> None:
    model = TrainedModel.load(linear_run)
    out = tmp_path / "scored.csv"
    scored = predict_file(model, TableReader(table, text="text"), out, probabilities=True)
    assert scored == Scored(rows=5000, resumed_at=0, unreadable=0, mended=0)
    rows = rows_of(out)
    assert [int(row["id"]) for row in rows] == list(range(5000))
    assert [row["predicted"] for row in rows[:4]] == ["refund", "delivery", "size", ""]
    assert sum(float(rows[0][f"p({label})"]) for label in model.labels) == pytest.approx(
        1, abs=1e-3
    )
    with pytest.raises(ConfigurationError, match="exists already"):
        predict_file(model, TableReader(table, text="text"), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "scored.csv"]


def test_a_failure_in_the_middle_is_continued(
    linear_run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TrainedModel.load(linear_run)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "scored.jsonl"
    predict_file(model, TableReader(table, text="text"), whole)
    monkeypatch.setattr(predict, "CHUNK_ROWS", 700)

    def stop(rows: int) -> None:
        if rows > 2000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(model, TableReader(table, text="text"), out, on_rows=stop)
    assert not out.exists()
    # What was written after the last note is not certain, and is written again.
    with (tmp_path / "scored.jsonl.part").open("ab") as stream:
        stream.write(b'{"id": "half a ')
    scored = predict_file(model, TableReader(table, text="text"), out)
    assert scored.resumed_at == 2100
    assert out.read_bytes() == whole.read_bytes()


def interrupt(_: int) -> None:
    raise KeyboardInterrupt


def test_other_settings_do_not_continue_it(linear_run: Path, table: Path, tmp_path: Path) -> None:
    model = TrainedModel.load(linear_run)
    out = tmp_path / "scored.csv"
    with pytest.raises(KeyboardInterrupt):
        predict_file(model, TableReader(table, text="text"), out, on_rows=interrupt)
    with pytest.raises(ConfigurationError, match="another input, model or setting"):
        predict_file(model, TableReader(table, text="text"), out, threshold=0.9)
    with pytest.raises(ConfigurationError, match="another input, model or setting"):
        predict_file(model, TableReader(table, text="text", encoding="gb18030"), out)


def test_another_run_of_the_same_name_and_data_does_not_continue_it(
    linear_run: Path, shop: Dataset, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.csv"
    first = TrainedModel.load(linear_run)
    with pytest.raises(KeyboardInterrupt):
        predict_file(first, TableReader(table, text="text"), out, on_rows=interrupt)
    weighted = TrainingConfig(method="linear", class_weights=True)
    other = TrainedModel.load(train(shop, weighted, out=tmp_path / "shop"))
    assert other.name == first.name
    with pytest.raises(ConfigurationError, match="another input, model or setting"):
        predict_file(other, TableReader(table, text="text"), out)


def test_a_file_that_appears_meanwhile_is_kept(
    linear_run: Path, table: Path, tmp_path: Path
) -> None:
    model, out = TrainedModel.load(linear_run), tmp_path / "scored.csv"
    with pytest.raises(ConfigurationError, match=r"kept in scored\.csv\.part"):
        predict_file(
            model,
            TableReader(table, text="text"),
            out,
            on_rows=lambda _: out.write_text("mine") and None,
        )
    assert out.read_text() == "mine"
    out.unlink()
    assert predict_file(model, TableReader(table, text="text"), out).resumed_at == 5000


def test_a_process_killed_at_the_very_end_does_not_hinder_the_next(
    linear_run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = TrainedModel.load(linear_run), tmp_path / "scored.csv"

    def killed(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            predict_file(model, TableReader(table, text="text"), out)
    assert (tmp_path / "scored.csv.progress").exists()
    whole = out.read_bytes()
    out.unlink()
    assert predict_file(model, TableReader(table, text="text"), out).resumed_at == 0
    assert out.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "scored.csv"]


def test_formats_that_are_not_written_are_refused(
    linear_run: Path, table: Path, tmp_path: Path
) -> None:
    model = TrainedModel.load(linear_run)
    for name in ("scored.parquet", "scored.xlsx", "scored"):
        with pytest.raises(ConfigurationError, match=r"\.csv, \.tsv or \.jsonl"):
            predict_file(model, TableReader(table, text="text"), tmp_path / name)
    predict_file(model, TableReader(table, text="text"), tmp_path / "scored.tsv")
    assert TableReader(tmp_path / "scored.tsv", text="text").columns == (
        *("id", "text", "predicted", "probability"),
    )


def test_json_lines_hold_numbers_lists_and_nulls(tmp_path: Path) -> None:
    texts = ["red apple", "red car", "green apple", "green car"] * 6
    labels = [["red", "fruit"], ["red"], ["green", "fruit"], ["green"]] * 6
    dataset = make_dataset(texts, labels)
    model = TrainedModel.load(train(dataset, TrainingConfig(method="linear"), out=tmp_path / "m"))
    table, out = tmp_path / "rows.csv", tmp_path / "scored.jsonl"
    table.write_text("id,text\n1,red apple\n2,\n")
    predict_file(model, TableReader(table, text="text"), out, probabilities=True)
    first, second = map(json.loads, out.read_text().splitlines())
    assert sorted(first["predicted"]) == ["fruit", "red"]
    assert 0.5 < first["probability"] <= 1
    assert first["p(green)"] < 0.5
    assert second == dict.fromkeys(first) | {"id": "2"}


def test_a_damaged_input_is_named(
    linear_run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = TableReader(table, text="text")

    def damaged(problems: object) -> Iterator[object]:
        yield from ()
        raise OSError("Corrupt snappy compressed data.")

    monkeypatch.setattr(reader._format, "rows", damaged)
    with pytest.raises(DataError, match=r"rows\.csv: cannot be read: Corrupt snappy"):
        predict_file(TrainedModel.load(linear_run), reader, tmp_path / "scored.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_threshold_is_a_probability(linear_run: Path) -> None:
    model = TrainedModel.load(linear_run)
    unsure = np.asarray([[0.5, 0.3, 0.2]], np.float32)
    assert model.decide(unsure, 0.5) == [Prediction(model.labels[:1], 0.5)]
    assert model.decide(unsure, 0.51) == [Prediction((), 0.5)]
    for threshold in (-0.1, 1.5, float("nan")):
        with pytest.raises(RequestError, match="between 0 and 1"):
            model.predict(["refund"], threshold=threshold)


def test_a_copied_run_is_called_what_its_folder_is_called(linear_run: Path, tmp_path: Path) -> None:
    shutil.copytree(linear_run, tmp_path / "live@7")
    assert TrainedModel.load(tmp_path / "live").name == "live@7"


KILLED = """
import os, signal, sys
from pathlib import Path

from lepton.data.reading import TableReader
from lepton.training import predict, resumable

run, table, out, moment, at = sys.argv[1:]
predict.CHUNK_ROWS = 50
note_down = resumable.write_json


def kill(rows):
    if rows == int(at):
        os.kill(os.getpid(), signal.SIGKILL)


def killed_before_the_note(file, values):
    if moment == "written":
        kill(values["rows"])
    note_down(file, values)


resumable.write_json = killed_before_the_note
predict.predict_file(
    predict.TrainedModel.load(run),
    TableReader(table, text="text"),
    Path(out),
    on_rows=kill if moment == "noted" else None,
)
"""


def test_a_killed_process_loses_and_doubles_nothing(
    linear_run: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.csv"
    command = [sys.executable, "-c", KILLED, str(linear_run), str(table), str(out)]
    # Rows are written, then noted down as certain; it is killed after the one and after the other.
    for moment, at in (("written", 1000), ("noted", 2000), ("written", 4950)):
        killed = subprocess.run([*command, moment, str(at)], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert not out.exists()
    subprocess.run([*command, "never", "0"], check=True)
    assert [int(row["id"]) for row in rows_of(out)] == list(range(5000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "scored.csv"]
