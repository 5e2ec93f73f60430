"""Engines that run as a worker process, loaded once and stopped while others are measured."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cache import bench_directory
from bench.peers.base import Engine, LoadError, Measurement, PeerError
from bench.peers.environment import Environment
from bench.peers.processes import family, idle_percentage, peak_memory
from bench.workloads import Workload

_REPOSITORY = Path(__file__).parents[2]
_PATIENCE_SECONDS = 1800.0


class ResidentEngine(Engine):
    """A worker process with one model, in an environment of its own or in ours.

    The process and its children are stopped (SIGSTOP) between measurements, so that none of its
    threads can spin while another engine is measured. ``convert`` turns a GGUF file into what the
    engine reads.
    """

    def __init__(
        self,
        name: str,
        description: str,
        *,
        adapter: str,
        package: str,
        threads: int,
        environment: Environment | None = None,
        options: Mapping[str, Any] | None = None,
        variables: Mapping[str, str] | None = None,
        convert: Callable[[Path], Path] = lambda path: path,
    ) -> None:
        super().__init__(name, description, threads)
        self._adapter = adapter
        self._package = package
        self._environment = environment
        self._options = dict(options or {})
        self._variables = dict(variables or {})
        self._convert = convert
        self._process: subprocess.Popen[str] | None = None
        self._path: Path | None = None

    def prepare(self) -> str:
        if self._environment is not None:
            self._environment.prepare()
            return self._environment.version(self._package)
        if importlib.util.find_spec(self._package) is None:
            raise PeerError(f"{self._package} is not installed")
        return str(importlib.import_module(self._package).__version__)

    def measure(self, path: Path, workload: Workload) -> Measurement:
        if workload.kind == "memory":
            self.close()
        pid = self._start(path)
        self._signal(signal.SIGCONT)
        try:
            if workload.kind == "idle":
                return Measurement(idle_percentage(family(pid)))
            value = self._ask(workload.fields)
            return Measurement(peak_memory(family(pid)) if workload.kind == "memory" else value)
        finally:
            self._signal(signal.SIGSTOP)

    def complete(self, path: Path, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Seconds in which all prompts are continued greedily by exactly so many tokens."""
        self._start(path)
        self._signal(signal.SIGCONT)
        try:
            listed = [list(prompt) for prompt in prompts]
            return self._ask({"kind": "complete", "prompts": listed, "tokens": tokens})
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process = None

    def _start(self, path: Path) -> int:
        """The process that has loaded ``path``."""
        if self._process is not None and self._path == path:
            return self._process.pid
        self.close()
        self._path = path
        model = self._convert(path)
        python = self._environment.python if self._environment else sys.executable
        log = bench_directory() / "logs" / f"{self._adapter}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            process = self._process = subprocess.Popen(
                [python, "-m", "bench.peers.worker", self._adapter],
                cwd=_REPOSITORY,
                env={**os.environ, **self._variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        try:
            self._ask({"path": str(model), "options": self._options})
        except PeerError as error:
            self.close()
            raise LoadError(str(error)) from None
        return process.pid

    def _ask(self, request: Mapping[str, Any]) -> float:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            answered, _, _ = select.select([process.stdout], [], [], _PATIENCE_SECONDS)
            if not answered:
                self.close()
                raise PeerError(f"no answer in {_PATIENCE_SECONDS / 60:.0f} minutes")
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.close()
            raise PeerError(f"its process ended; see logs/{self._adapter}.log of the bench's cache")
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return float(reply["value"])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
