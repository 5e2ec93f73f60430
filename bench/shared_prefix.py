"""What attending a shared prefix once for a whole batch could gain, at most.

    python -m bench.shared_prefix

Sixteen sequences with 1,000 tokens in common decode one token. Attention of all layers is computed
as the engine does, every sequence on its own over blocks that are the same, and as if the sixteen
queries were consecutive rows of one sequence, which share every load of keys and values: what
sharing a prefix could reach, without the merging of partial sums it would need besides. The same
layers hold distinct blocks in the third row, for what the processor's caches do already; the last
row is what calls cost without a prefix.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from lepton.kernels import _native
from lepton.models.executors.base import BLOCK_SIZE
from lepton.telemetry.machine import inspect_machine

_SEQUENCES, _PREFIX = 16, 1000
_LAYERS, _HEADS, _KV_HEADS, _HEAD_DIM = 30, 9, 3, 64
"""SmolLM2-135M."""
_ROUNDS = 60


@dataclass(frozen=True)
class Case:
    """Where sixteen queries find their keys and values."""

    positions: list[int]
    row_starts: list[int]
    tables: list[list[int]]


def main() -> None:
    """Measure the cases in turns and print medians."""
    blocks = -(-(_PREFIX + _SEQUENCES) // BLOCK_SIZE)
    shared = list(range(blocks))
    own = [list(range(blocks * each, blocks * (each + 1))) for each in range(_SEQUENCES)]
    starts = list(range(_SEQUENCES + 1))
    cases = {
        "each on its own, shared blocks": Case([_PREFIX] * _SEQUENCES, starts, [shared] * 16),
        "all rows together": Case(
            list(range(_PREFIX, _PREFIX + _SEQUENCES)), [0, _SEQUENCES], [shared]
        ),
        "each on its own, blocks of its own": Case([_PREFIX] * _SEQUENCES, starts, own),
        "each on its own, one block": Case([BLOCK_SIZE - 1] * _SEQUENCES, starts, [[0]] * 16),
    }
    steps = _steps(list(cases.values()), blocks * _SEQUENCES)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(_ROUNDS):
        for name, step in zip(cases, steps, strict=True):
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    table = Table(title="attention of one step, all layers", title_justify="left")
    for number, header in enumerate(("", "ms")):
        table.add_column(header, justify="right" if number else "left")
    for name, values in seconds.items():
        table.add_row(name, f"{1000 * statistics.median(values):.2f}")
    Console(highlight=False).print(table)


def _steps(cases: list[Case], num_blocks: int) -> list[Callable[[], None]]:
    """For each case, what computes it in caches and with queries that all cases have in common."""
    random = np.random.default_rng(1)
    pool = _native.ThreadPool(inspect_machine().threads)
    width = _KV_HEADS * _HEAD_DIM
    slots = np.arange(num_blocks * BLOCK_SIZE, dtype=np.int32)
    caches = []
    for _ in range(_LAYERS):
        cache = _native.KvCache("bfloat16", num_blocks, _KV_HEADS, _HEAD_DIM)
        keys, values = random.standard_normal((2, len(slots), width), dtype=np.float32)
        cache.store(slots, keys, values)
        caches.append(cache)
    queries = random.standard_normal((_SEQUENCES, _HEADS * _HEAD_DIM), dtype=np.float32)

    def step(case: Case) -> Callable[[], None]:
        positions = np.array(case.positions, dtype=np.int32)
        row_starts = np.array(case.row_starts, dtype=np.int32)
        tables = np.array(case.tables, dtype=np.int32)

        def compute() -> None:
            for cache in caches:
                _native.attend(
                    *(pool, cache, queries, positions, row_starts, tables),
                    scale=_HEAD_DIM**-0.5,
                    rounded=True,
                )

        return compute

    return [step(case) for case in cases]


if __name__ == "__main__":
    main()
