"""The machine's limits, measured, and the speed they allow a workload.

S. Williams, A. Waterman and D. Patterson, "Roofline: an insightful visual performance model for
multicore architectures", Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.cache import bench_directory
from bench.shape import ModelShape
from bench.workloads import Workload

_SOURCE = Path(__file__).with_name("roofline.cpp")


@dataclass(frozen=True)
class MachineLimits:
    """The best that was measured with so many threads."""

    threads: int
    bytes_per_second: float
    integer_instruction: str
    integer_operations_per_second: float
    float_instruction: str
    float_operations_per_second: float


def measure_limits(threads: int) -> MachineLimits:
    """Compile the probe for this machine if it changed, and run it (two seconds)."""
    program = bench_directory() / "roofline"
    if not program.exists() or program.stat().st_mtime < _SOURCE.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        flags = ["-std=c++20", "-O3", "-march=native", "-pthread"]
        subprocess.run(["c++", *flags, str(_SOURCE), "-o", str(program)], check=True)
    printed = subprocess.run([program, str(threads)], capture_output=True, check=True).stdout
    return MachineLimits(**json.loads(printed))


def speed_limit(shape: ModelShape, workload: Workload, limits: MachineLimits) -> float:
    """Tokens per second that no engine can exceed on this machine with these weights.

    Weights and cache are read from memory once, every weight is multiplied once at the integer
    peak (at the float peak for float weights), attention at the float peak; the reading and the
    computing overlap perfectly. Two planes of activations compute twice as much as this counts.
    """
    peak = (
        limits.float_operations_per_second
        if shape.float_weights
        else limits.integer_operations_per_second
    )
    computing = (
        shape.operations(workload) / peak
        + shape.attention_operations(workload) / limits.float_operations_per_second
    )
    reading = shape.bytes_read(workload) / limits.bytes_per_second
    tokens = workload.context if workload.kind == "prefill" else workload.streams
    return tokens / max(reading, computing)
