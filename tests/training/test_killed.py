"""kill -9 of a process in the middle of a training, and the same training again."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

from lepton.training.dataset import Dataset

PROGRAM = """
import os, signal, sys
from pathlib import Path

import torch

from lepton.training import TrainingConfig, load_dataset, loop, train

torch.set_num_threads(1)
table, encoder = sys.argv[1:3]
CONFIGS = {
    "transformer": TrainingConfig(
        method="transformer", epochs=3, batch_size=8, accumulation=2, patience=9, width=32,
        heads=4, feed_forward=64, layers=1, vocabulary_size=300,
    ),
    "finetune": TrainingConfig(
        method="finetune", encoder=encoder, epochs=3, batch_size=8, patience=9, max_tokens=16
    ),
}
dataset = load_dataset(table).dataset


def run(method, out, kill_at=None):
    # The network is kept after every batch, the encoder at the ends of epochs only.
    loop.SAVE_SECONDS = -1 if method == "transformer" else 1000
    steps = []

    def watch(stage, done, total, metrics):
        if stage == "epoch":
            steps.append(done)
            if done == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    train(dataset, CONFIGS[method], out=out, progress=watch)
    return steps


"""
KILL = "run(sys.argv[3], Path(sys.argv[4]), kill_at=int(sys.argv[5]))"
FINISH = """
for method in CONFIGS:
    for out in sys.argv[3:]:
        steps = run(method, Path(out) / method)
        print(method, Path(out).name, steps[0], steps[-1])
"""


def launch(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def tensors(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.safetensors")}


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    shop: Dataset, encoder: str, tmp_path: Path
) -> None:
    table = tmp_path / "shop.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        labels = [shop.labels[target] for target in shop.targets]
        csv.writer(stream).writerows([("text", "label"), *zip(shop.texts, labels, strict=True)])
    for method in ("transformer", "finetune"):
        out = tmp_path / "killed" / method
        # Ten batches an epoch: in the sixth of the second, before it is kept.
        killed = launch(KILL, table, encoder, method, out, 16)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not list(out.parent.glob(f"{method}@1/run.json"))
    outs = (tmp_path / "killed", tmp_path / "whole")
    finished = launch(FINISH, table, encoder, *outs)
    assert finished.returncode == 0, finished.stderr
    # What was done first and last.
    assert finished.stdout.splitlines() == [
        "transformer killed 16 30",
        "transformer whole 1 30",
        "finetune killed 11 30",
        "finetune whole 1 30",
    ]
    for method in ("transformer", "finetune"):
        cut, whole = (tensors(out / f"{method}@1") for out in outs)
        assert cut == whole
        assert len(cut) >= 2
        assert len(list((tmp_path / "killed").glob(f"{method}@*"))) == 1
