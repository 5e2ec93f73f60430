from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lepton.data.reading import TableReader
from lepton.errors import ConfigurationError
from lepton.training import predict
from lepton.training.predict import Scored, predict_file, predict_stream
from lepton.training.trained_model import TrainedModel


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


def test_other_settings_do_not_continue_it(linear_run: Path, table: Path, tmp_path: Path) -> None:
    model = TrainedModel.load(linear_run)
    out = tmp_path / "scored.csv"

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(model, TableReader(table, text="text"), out, on_rows=stop)
    with pytest.raises(ConfigurationError, match="another input, model or setting"):
        predict_file(model, TableReader(table, text="text"), out, threshold=0.9)


KILLED = """
import os, signal, sys
from pathlib import Path

from lepton.data.reading import TableReader
from lepton.training import predict

run, table, out, moment, at = sys.argv[1:]
predict.CHUNK_ROWS = 50
note_down = predict.write_json


def kill(rows):
    if rows == int(at):
        os.kill(os.getpid(), signal.SIGKILL)


def killed_before_the_note(file, values):
    if moment == "written":
        kill(values["rows"])
    note_down(file, values)


predict.write_json = killed_before_the_note
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


def test_a_stream_is_answered_line_by_line(linear_run: Path, tmp_path: Path) -> None:
    lines = ['{"id": 7, "text": "refund money"}', '"快递 物流"', "{", '{"id": 8}', ""]
    source = tmp_path / "in"
    source.write_text("\n".join(lines))
    sink = io.BytesIO()
    with source.open("rb") as stream:
        answered = predict_stream(TrainedModel.load(linear_run), stream, sink)
    answers = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert answered == len(answers) == 4
    assert answers[0]["id"] == 7
    assert [answer.get("label") for answer in answers] == ["refund", "delivery", None, None]
    assert answers[2]["error"] == "not valid JSON"
