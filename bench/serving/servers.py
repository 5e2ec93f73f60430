"""The servers that are measured, each a process that is stopped while others have their turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cache import bench_directory
from bench.peers import PeerError, llama_tools
from bench.peers.processes import (
    family,
    free_port,
    is_ready,
    processor_seconds,
    resident_memory,
)


@dataclass
class Server:
    """A server process that takes OpenAI completions."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    body: Mapping[str, Any]
    """Fields that every request has, in the server's own words."""

    def completion(self, prompt: str | Sequence[int], tokens: int, **more: Any) -> dict[str, Any]:
        """The body of a streamed greedy completion of exactly so many tokens."""
        return {
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.body,
            **more,
        }

    def processor_seconds(self) -> float:
        """Processor time that it and its children have taken."""
        return processor_seconds(family(self.process.pid))

    def resident_memory(self) -> float:
        """Bytes that are resident now."""
        return resident_memory(family(self.process.pid))

    def wake(self) -> None:
        """Let it run."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def rest(self) -> None:
        """Stop it, so that none of its threads can disturb the others."""
        os.killpg(self.process.pid, signal.SIGSTOP)


@contextmanager
def lepton(path: Path, *options: str, name: str = "lepton") -> Iterator[Server]:
    """``lepton serve`` on a model file with more options."""
    port = free_port()
    command = [sys.executable, "-m", "lepton", "serve", str(path), "--port", str(port)]
    command += ["--model-name", "model", "--log-level", "warning", *options]
    with _process(name, command, port, "/readyz", {"model": "model"}, {}) as server:
        yield server


@contextmanager
def llama(path: Path, threads: int, *, slots: int, context: int) -> Iterator[Server]:
    """llama-server with so many slots, each of ``context`` tokens, its prompt cache off."""
    port = free_port()
    command = [str(llama_tools.folder() / "llama-server"), "-m", str(path), "-t", str(threads)]
    command += ["-np", str(slots), "-c", str(slots * context), "--port", str(port), "--no-webui"]
    body = {"model": "model", "cache_prompt": False}
    variables = llama_tools.variables()
    with _process("llama-server", command, port, "/health", body, variables) as server:
        yield server


@contextmanager
def _process(
    name: str,
    command: Sequence[str],
    port: int,
    health: str,
    body: Mapping[str, Any],
    variables: Mapping[str, str],
) -> Iterator[Server]:
    log = bench_directory() / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if not is_ready(process, port, health):
            last = " ".join(log.read_text("utf-8", "replace").splitlines()[-3:])
            raise PeerError(f"the server did not start: {last}")
        yield Server(name, process, port, body)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
