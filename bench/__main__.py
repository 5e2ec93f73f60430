"""Lepton beside its peers on one model: decode, prefill and batched decode, interleaved rounds.

    python -m bench --model smollm2-135m-instruct --rounds 5

Every round runs each workload once with each engine, in turn, so that a drift of the machine's
speed meets all of them; the table shows medians and the ratio to each peer. All load the same GGUF
file; transformers (PyTorch) computes in float32, its fastest on such files. The share of the
roofline is the file's bytes, read once per token, over the bandwidth measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lepton.kernels import isa_info
from lepton.models import catalogue
from lepton.telemetry.machine import inspect_machine

DECODE_TOKENS = 64
PREFILL_TOKENS = 512
STREAMS = 16


class Peer(Protocol):
    """One engine with the model loaded."""

    def decode(self, streams: int, tokens: int) -> float:
        """Seconds per step of ``streams`` greedy continuations of a short prompt."""

    def prefill(self, tokens: int) -> float:
        """Seconds to read a prompt of ``tokens``."""


class Lepton:
    """The engine under test, in process."""

    def __init__(self, path: Path) -> None:
        from lepton import LLM

        self._llm = LLM(path, context_length=2048, max_sequences=STREAMS)

    def decode(self, streams: int, tokens: int) -> float:
        from lepton import SamplingParams

        prompts = [[1, 100 + i, 200 + i] for i in range(streams)]
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        start = time.perf_counter()
        self._llm.generate(prompts, params)
        return (time.perf_counter() - start) / tokens

    def prefill(self, tokens: int) -> float:
        from lepton import SamplingParams

        prompt = np.random.default_rng(time.monotonic_ns()).integers(100, 40_000, tokens).tolist()
        start = time.perf_counter()
        self._llm.generate([prompt], SamplingParams(temperature=0, max_tokens=1))
        return time.perf_counter() - start


class Transformers:
    """PyTorch through the transformers package."""

    def __init__(self, path: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )

    def decode(self, streams: int, tokens: int) -> float:
        ids = self._torch.tensor([[1, 100 + i, 200 + i] for i in range(streams)])
        start = time.perf_counter()
        with self._torch.inference_mode():
            self._model.generate(
                ids,
                attention_mask=self._torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                pad_token_id=0,
            )
        return (time.perf_counter() - start) / tokens

    def prefill(self, tokens: int) -> float:
        ids = self._torch.randint(100, 40_000, (1, tokens))
        start = time.perf_counter()
        with self._torch.inference_mode():
            self._model(ids, logits_to_keep=1)
        return time.perf_counter() - start


@dataclass(frozen=True)
class Workload:
    """One thing to measure, in tokens per second."""

    name: str
    measure: Callable[[Peer], float]


WORKLOADS = (
    Workload("decode, 1 stream", lambda peer: 1 / peer.decode(1, DECODE_TOKENS)),
    Workload(
        f"prefill {PREFILL_TOKENS}", lambda peer: PREFILL_TOKENS / peer.prefill(PREFILL_TOKENS)
    ),
    Workload(
        f"decode, {STREAMS} streams",
        lambda peer: STREAMS / peer.decode(STREAMS, DECODE_TOKENS // 2),
    ),
)


def read_bandwidth() -> float:
    """Bytes per second one numpy reduction per processor reads from memory, the best of five."""
    from concurrent.futures import ThreadPoolExecutor

    threads = inspect_machine().threads
    arrays = [np.ones(1 << 26, np.float32) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(np.max, arrays))
            best = max(best, threads * arrays[0].nbytes / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="name or path of a GGUF")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write every sample as JSON")
    arguments = parser.parse_args()
    path = catalogue.locate(arguments.model)

    peers: dict[str, Peer] = {
        "lepton": Lepton(path),
        "transformers": Transformers(path),
    }
    samples: dict[str, dict[str, list[float]]] = {
        w.name: {name: [] for name in peers} for w in WORKLOADS
    }
    for workload in WORKLOADS:
        for peer in peers.values():
            workload.measure(peer)
    for _ in track(range(arguments.rounds), "Measuring"):
        for workload in WORKLOADS:
            for name, peer in peers.items():
                samples[workload.name][name].append(workload.measure(peer))
    bandwidth = read_bandwidth()
    show(samples, path, bandwidth)
    if arguments.out:
        report = {"model": path.name, "bandwidth": bandwidth, "tokens_per_second": samples}
        arguments.out.write_text(json.dumps(report, indent=1))


def show(samples: dict[str, dict[str, list[float]]], path: Path, bandwidth: float) -> None:
    """Print the medians, the ratios and the share of the decode roofline."""
    table = Table(title=f"{path.name}: tokens per second, medians (ratio of Lepton to each)")
    table.add_column("workload")
    for name in next(iter(samples.values())):
        table.add_column(name, justify="right")
    for workload, by_peer in samples.items():
        medians = {name: statistics.median(values) for name, values in by_peer.items()}
        ours = medians["lepton"]
        cells = [
            f"{median:.1f}" if name == "lepton" else f"{median:.1f} ({ours / median:.2f} ×)"
            for name, median in medians.items()
        ]
        table.add_row(workload, *cells)
    console = Console()
    console.print(table)
    decode = statistics.median(samples[WORKLOADS[0].name]["lepton"])
    roofline = bandwidth / path.stat().st_size
    console.print(
        f"{isa_info().selected}, {inspect_machine().threads} threads, "
        f"memory {bandwidth / 1e9:.1f} GB/s: "
        f"decode reaches {decode / roofline:.0%} of {roofline:.0f} tokens/s"
    )


if __name__ == "__main__":
    main()
