"""A disk that is full, Ctrl-C, files larger than memory should be, mixed encodings.

Each in a process of its own; what it was at is finished by the same command.
"""

from __future__ import annotations

import csv
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lepton.training import TrainedModel, TrainingConfig, make_dataset, train

LIMIT = 32 * 1024
MAIN = "\nimport sys\nfrom lepton.cli import main\nsys.argv[0] = 'lepton'\nmain()\n"


def launch(
    *arguments: str, program: str = "", file_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command, after ``program``; no file may grow beyond ``file_bytes``."""

    def before() -> None:
        # Shells let what they run in the background ignore the signal.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.run(
        [sys.executable, "-c", program + MAIN, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, "LEPTON_LANG": "en", "COLUMNS": "200"},
        preexec_fn=before,
    )


def one_line(result: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """The command ended with ``code`` and a message that has these parts."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    message = result.stderr.splitlines()[-1]
    for part in parts:
        assert part in message


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished run of method `linear`."""
    texts = ["refund please", "money back", "where is my parcel", "the parcel is late"] * 4
    dataset = make_dataset(texts, ["refund", "refund", "delivery", "delivery"] * 4)
    out = tmp_path_factory.mktemp("runs") / "shop"
    return str(train(dataset, TrainingConfig(method="linear"), out=out))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "intent"])
        for row in range(6000):
            writer.writerow([("refund money", "parcel late")[row % 2] + f" {row}", "ab"[row % 2]])
    return path


def test_predict_on_a_full_disk_is_continued(run: str, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "scored.csv"
    command = ("predict", run, str(table), "--out", str(out))
    full = launch(*command, file_bytes=3 * LIMIT)
    one_line(full, 2, "scored.csv cannot be written: File too large", "scored.csv.part")
    assert not out.exists()
    assert launch(*command).returncode == 0
    assert [line.split(",")[0].split()[-1] for line in out.read_text().splitlines()[1:]] == [
        str(row) for row in range(6000)
    ]


@pytest.mark.parametrize("method", ["linear", "bag"])
def test_train_on_a_full_disk_is_continued(method: str, table: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.csv"
    small.write_text("".join(table.read_text().splitlines(keepends=True)[:201]))
    out = tmp_path / "runs" / "shop"
    command = ("train", str(small), "--out", str(out), "--method", method, "--epochs", "2")
    full = launch(*command, file_bytes=2048)
    one_line(full, 2, f"{out}", "cannot be written", "what was finished before is kept")
    finished = launch(*command)
    assert finished.returncode == 0, finished.stderr
    assert [path.name for path in out.parent.iterdir()] == ["shop@1"]
    assert TrainedModel.load(out).labels == ("a", "b")


def test_clean_on_a_full_disk_keeps_what_was_written(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean.csv"
    command = ("data", "clean", str(table), "--out", str(out), "--near", "0")
    full = launch(*command, file_bytes=LIMIT)
    one_line(full, 2, "clean.csv.part", "cannot be written: File too large")
    assert not out.exists()
    assert (tmp_path / "clean.csv.part").stat().st_size == LIMIT


def test_ctrl_c_in_predict_is_continued(run: str, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "scored.csv"
    command = ("predict", run, str(table), "--out", str(out))
    program = """
import os, signal
from lepton.training import resumable
note_down = resumable.write_json
def interrupt(file, values):
    note_down(file, values)
    os.kill(os.getpid(), signal.SIGINT)
resumable.write_json = interrupt
"""
    one_line(launch(*command, program=program), 130, "the same command continues after the last")
    assert not out.exists()
    again = launch(*command)
    assert "continued after 2,048 rows" in again.stderr
    assert len(out.read_text().splitlines()) == 6001


def test_ctrl_c_in_clean_keeps_what_was_written(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean.csv"
    program = """
import os, signal
from lepton.data.writing import TableWriter
write = TableWriter.write
def interrupt(self, values):
    write(self, values)
    if self.count == 3000:
        os.kill(os.getpid(), signal.SIGINT)
TableWriter.write = interrupt
"""
    stopped = launch("data", "clean", str(table), "--out", str(out), "--near", "0", program=program)
    one_line(stopped, 130, str(tmp_path / "clean.csv.part"))
    assert not out.exists()
    kept = (tmp_path / "clean.csv.part").read_text().splitlines()
    assert kept[:2] == ["question,intent", "refund money 0,a"]
    assert len(kept) == 3001


def test_mixed_encodings_are_mended_and_told(run: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [f"快递 包裹 {n},b\n".encode() for n in range(20)]
    rows += ["要求退款,a\n".encode("gb18030")] + [f"退款 钱 {n},a\n".encode() for n in range(20)]
    path.write_bytes(b"question,intent\n" + b"".join(rows))
    out = tmp_path / "scored.csv"
    scored = launch("predict", run, str(path), "--out", str(out))
    assert scored.returncode == 0, scored.stderr
    assert "1 rows in another encoding or shape were mended" in scored.stderr
    assert "要求退款" in out.read_text(encoding="utf-8-sig")
    trained = launch("train", str(path), "--out", str(tmp_path / "new"), "--method", "linear")
    assert trained.returncode == 0, trained.stderr
    assert "1 rows in another encoding or shape were mended" in trained.stderr


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", (), "the file is empty"),
        ("question\n", (), "no row below the header"),
        ("a,b\n1,2\n", (), "which column holds the text? Name one of: a, b"),
        ("a,b\n1,2\n", ("--text", "c"), "column 'c': there is no such column; the file has: a, b"),
    ],
)
def test_nothing_to_predict_is_told_and_nothing_is_left(
    run: str, tmp_path: Path, content: str, options: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    failed = launch("predict", run, str(path), "--out", str(tmp_path / "scored.csv"), *options)
    one_line(failed, 2, str(path), message)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


WORK: dict[str, str] = {
    "profile": "profile(TableReader(path), sample_rows=100)",
    "clean": "[None for _ in Cleaning(TableReader(path), CleaningOptions(near=0))]",
    "predict": "predict_file(model, TableReader(path), Path(path + '.scored.csv'))",
}
MEMORY = """
import resource, sys
from pathlib import Path
from lepton.data import Cleaning, CleaningOptions, TableReader, profile
from lepton.training import TrainedModel, predict_file
run, *paths = sys.argv[1:]
model = TrainedModel.load(run)
for path in paths:
    {work}
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("work", WORK)
def test_memory_does_not_grow_with_the_file(
    run: str, tmp_path: Path, work: str, write_rows: Callable[[Path, int], None]
) -> None:
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    write_rows(small, 2_500)
    write_rows(large, 20_000)
    megabytes = large.stat().st_size >> 20
    assert megabytes > 60
    done = subprocess.run(
        [sys.executable, "-c", MEMORY.format(work=WORK[work]), run, str(small), str(large)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after - before < megabytes / 4


@pytest.fixture
def write_rows() -> Callable[[Path, int], None]:
    """Write a table of short questions beside long notes."""

    def write(path: Path, rows: int) -> None:
        note = "n" * 3300
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["question", "intent", "note"])
            writer.writerows([f"question {row}", "ab"[row % 2], note] for row in range(rows))

    return write
