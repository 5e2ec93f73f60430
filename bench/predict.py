"""``lepton predict`` on a million short rows: speed, peak memory, and kill -9 on the way."""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.corpora import shop_questions


@dataclass(frozen=True)
class _Ended:
    """How a process ended."""

    seconds: float
    processor_seconds: float
    peak_bytes: int


def add_command(commands: Any) -> None:
    """Add the command's arguments."""
    command = commands.add_parser("predict", help="lepton predict on a million rows")
    command.add_argument("run", help="run to score with, such as runs/intents")
    command.add_argument("--rows", type=int, default=1_000_000)
    command.add_argument("--kills", type=int, default=0, help="times to kill a second run of it")


def run_predict(arguments: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Score a generated table once, then again with kills, and compare the two results."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = _table(folder / "rows.csv", arguments.rows)
        ended = _finish(_start(arguments.run, table, folder / "whole.csv"))
        tell(
            f"{arguments.rows:,} rows in {ended.seconds:.1f} s: "
            f"{arguments.rows / ended.seconds:,.0f} rows/s, "
            f"{ended.processor_seconds:.1f} s of processors, "
            f"at most {ended.peak_bytes / 1e6:.0f} MB resident"
        )
        if not arguments.kills:
            return
        out = folder / "killed.csv"
        for _ in range(arguments.kills):
            process = _start(arguments.run, table, out)
            time.sleep(0.6 * ended.seconds / arguments.kills)
            process.send_signal(signal.SIGKILL)
            process.wait()
        _finish(_start(arguments.run, table, out))
        same = out.read_bytes() == (folder / "whole.csv").read_bytes()
        tell(f"killed {arguments.kills} times and continued: {'the same' if same else 'ANOTHER'}")


def _table(path: Path, rows: int) -> Path:
    """Questions of the example, each with a number of its own."""
    texts = [text for text in shop_questions() if len(text) < 200]
    draw = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "question"])
        for row in range(rows):
            writer.writerow([row, f"{draw.choice(texts)} {draw.randrange(100_000)}"])
    return path


def _start(run: str, table: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lepton", "predict", run, str(table), "--out", str(out)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def _finish(process: subprocess.Popen[bytes]) -> _Ended:
    start = time.perf_counter()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"lepton predict ended with {process.returncode}")
    return _Ended(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
