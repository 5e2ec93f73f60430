"""llama.cpp, measured by its own benchmarks: llama-bench and llama-batched-bench."""

from __future__ import annotations

import time
from pathlib import Path

from bench.peers import llama_tools
from bench.peers.base import Engine, Measurement
from bench.peers.processes import idle_percentage, peak_memory
from bench.workloads import Workload

_FLASH_ATTENTION = ("on", "off")
_SHORT_PROMPT, _SHORT_REPEATS = 128, 5


class LlamaCpp(Engine):
    """llama.cpp built for this machine; the better of flash attention on and off counts."""

    def prepare(self) -> str:
        return llama_tools.prepare()

    def measure(self, path: Path, workload: Workload) -> Measurement:
        match workload.kind:
            case "load":
                start = time.perf_counter()
                self._bench(path, "-p", 8, "-n", 0, "-r", 1, "--no-warmup")
                return Measurement(time.perf_counter() - start)
            case "idle" | "memory":
                return Measurement(self._of_server(path, workload))
            case "prefill":
                repeats = _SHORT_REPEATS if workload.context <= _SHORT_PROMPT else 1
                return self._speed(path, "-p", workload.context, "-n", 0, "-r", repeats)
            case "decode" if workload.streams > 1:
                return max(
                    (self._batched(path, workload, flash) for flash in _FLASH_ATTENTION),
                    key=lambda measurement: measurement.value,
                )
            case "decode":
                depth = workload.context if workload.context > _SHORT_PROMPT else 0
                return self._speed(path, "-p", 0, "-n", workload.tokens, "-d", depth, "-r", 1)

    def close(self) -> None:
        """Every program has ended with its measurement."""

    def _speed(self, path: Path, *arguments: object) -> Measurement:
        output = self._bench(path, "-fa", ",".join(_FLASH_ATTENTION), *arguments)
        speeds = {
            flash: float(line["avg_ts"])
            for flash, line in zip(_FLASH_ATTENTION, llama_tools.json_lines(output), strict=True)
        }
        best = max(speeds, key=lambda flash: speeds[flash])
        return Measurement(speeds[best], f"-fa {best}")

    def _bench(self, path: Path, *arguments: object) -> str:
        return llama_tools.run(
            "llama-bench", "-m", path, "-t", self.threads, "-o", "jsonl", *arguments
        )

    def _batched(self, path: Path, workload: Workload, flash: str) -> Measurement:
        sequence = workload.context + workload.tokens
        arguments = {
            "-m": path,
            "-t": self.threads,
            "-c": workload.streams * sequence + 64,
            "-fa": flash,
            "-npp": workload.context,
            "-ntg": workload.tokens,
            "-npl": workload.streams,
            "--output-format": "jsonl",
        }
        output = llama_tools.run(
            "llama-batched-bench", *(item for pair in arguments.items() for item in pair)
        )
        return Measurement(float(llama_tools.json_lines(output)[-1]["speed_tg"]), f"-fa {flash}")

    def _of_server(self, path: Path, workload: Workload) -> float:
        with llama_tools.server(path, self.threads) as server:
            prompt = list(range(100, 100 + workload.context))
            for _ in server.completion(prompt, max(1, workload.tokens)):
                pass
            if workload.kind == "idle":
                return idle_percentage([server.pid])
            return peak_memory([server.pid])
