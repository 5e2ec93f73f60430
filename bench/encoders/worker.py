"""Inside an engine's process: python -m bench.encoders.worker ENGINE MODEL CACHE THREADS.

Reads a workload's name a line; answers with the seconds of each call and, at first, a file of
vectors.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from bench.encoders.adapters import ENGINES
from bench.encoders.texts import texts_file, workloads


def main() -> None:
    """Answer until standard input ends."""
    name, model, cache, threads = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr
    embed = ENGINES[name](Path(model), Path(cache), int(threads))
    known = {workload.name: workload for workload in workloads()}
    texts_of = json.loads(texts_file(Path(cache)).read_text("utf-8"))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        workload = known[line.strip()]
        file = Path(cache) / f"{name} {workload.name}.npy".replace(" ", "-")
        texts = texts_of[workload.name]
        if not file.exists():
            np.save(file, embed(texts, workload.max_tokens))
        embed(texts[:4], workload.max_tokens)
        seconds = []
        for _ in range(workload.repeats):
            started = time.perf_counter()
            embed(texts, workload.max_tokens)
            seconds.append(time.perf_counter() - started)
        answer = {"seconds": statistics.median(seconds), "vectors": str(file)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
