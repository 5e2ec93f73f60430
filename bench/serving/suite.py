"""Every workload of serving, engine by engine and round by round, into one results file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from bench.engines import OPENVINO
from bench.models import MODELS
from bench.peers import PeerError
from bench.peers.resident import ResidentEngine
from bench.serving import questions, servers, texts, workloads
from bench.serving.client import Call
from bench.serving.servers import Server
from bench.serving.workloads import COMPLETION_TOKENS, PROMPT_TOKENS, Figures
from lepton.models.loader import Model, load_model
from lepton.telemetry.machine import inspect_machine

STREAMS = 16
CROWD, TRIALS = 64, 6
QUICK_CROWD, QUICK_TRIALS = 24, 4
PREFIX_TOKENS, SUFFIX_TOKENS = 1000, 20
LONG_TOKENS, DECODING = 6000, 8
OVERLOAD_FACTOR, OVERLOAD_SECONDS = 10.0, 60.0
LLAMA_SLOTS, LLAMA_CONTEXT = 16, 512
_PLAIN = ("--speculation", "off", "--no-prefix-cache")
_CALM = (*_PLAIN, "--max-sequences", "8", "--cache-memory", "512M")
"""Few streams at once, so that those which are let in are as fast as ever."""

Tell = Callable[[str], object]


@dataclass
class ServingResults:
    """What was measured: one entry for each workload, engine and round."""

    machine: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def figures(self, workload: str, engine: str) -> list[Figures]:
        """The figures of every round."""
        return [
            sample["figures"]
            for sample in self.samples
            if (sample["workload"], sample["engine"]) == (workload, engine)
        ]

    def save(self, path: Path) -> None:
        """Replace the file at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        partial.replace(path)


def load_results(path: Path) -> ServingResults:
    """What an earlier run has saved; empty when there is none."""
    return ServingResults(**json.loads(path.read_text())) if path.exists() else ServingResults()


class Suite:
    """The servers of one run, started when a workload first needs them, at rest in between."""

    def __init__(
        self, results: ServingResults, file: Path, tell: Tell, *, quick: bool = False
    ) -> None:
        self._quick = quick
        self._results = results
        self._file = file
        self._tell = tell
        self._threads = inspect_machine().threads
        self._q4_1 = MODELS["smollm2-q4_1"].obtain()
        self._model: Model = load_model(self._q4_1)
        self._prompts = texts.prompts(self._model.tokenizer, PROMPT_TOKENS)
        self._servers: dict[str, Server] = {}
        self._stack = ExitStack()
        self._processes: dict[str, ResidentEngine] = {}
        machine = inspect_machine()
        results.machine = {"processor": machine.processor, "threads": machine.threads}

    def close(self) -> None:
        """End every process."""
        self._stack.close()
        for process in self._processes.values():
            process.close()
        self._model.close()

    def measure(self, name: str, round_number: int) -> None:
        """One round of a workload."""
        for engine, figures in getattr(self, f"_{name}")():
            self._results.samples.append(
                {"workload": name, "engine": engine, "round": round_number, "figures": figures}
            )
            self._results.save(self._file)
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            self._tell(f"{name}, round {round_number}, {engine}: {shown}")

    def _closed(self) -> Iterator[tuple[str, Figures]]:
        """16 streams at once over HTTP, and in process."""
        prompts = self._next_prompts(STREAMS)
        for precision in ("exact", "fast"):
            yield f"lepton {precision}", workloads.closed(self._lepton(precision), prompts)[0]
            yield f"lepton {precision}, in process", self._in_process(precision, prompts)
        yield from self._of_peer(
            "llama-server", lambda: workloads.closed(self._llama(), prompts)[0]
        )
        yield from self._of_peer(
            "openvino, in process", lambda: self._in_process("openvino", prompts)
        )

    def _poisson(self) -> Iterator[tuple[str, Figures]]:
        """64 streams as a Poisson process at 80 % of what the server can bear."""
        for precision in ("exact", "fast"):
            rate = 0.8 * self._capacity(precision)
            prompts = self._next_prompts(CROWD)
            yield (
                f"lepton {precision}",
                workloads.poisson(self._lepton(precision), prompts, rate)[0],
            )

    def _slo(self) -> Iterator[tuple[str, Figures]]:
        """The highest Poisson rate that serves 95 % well."""
        prompts = self._next_prompts(QUICK_CROWD if self._quick else CROWD)
        for precision in ("exact", "fast"):
            yield f"lepton {precision}", self._highest(self._lepton(precision), prompts, 3.0)
        yield from self._of_peer("llama-server", lambda: self._highest(self._llama(), prompts, 1.0))

    def _highest(self, server: Server, prompts: workloads.Prompts, first: float) -> Figures:
        count = QUICK_TRIALS if self._quick else TRIALS
        trials = workloads.highest_rate(server, prompts, first, count)
        enough = [trial.rate for trial in trials if trial.good >= workloads.SLO_SHARE]
        rates = {f"good_at_{trial.rate:.2f}": trial.good for trial in trials}
        return {"rate": max(enough, default=0.0), **rates}

    def _prefix(self) -> Iterator[tuple[str, Figures]]:
        """16 requests that share 1,000 tokens, warm, with the cache on and off."""
        long = texts.prompts(self._model.tokenizer, PREFIX_TOKENS)
        prefix = next(long)
        suffixes = [each[:SUFFIX_TOKENS] for each in self._next_prompts(STREAMS + 1)]
        for engine, options in (
            ("lepton exact, cache on", ("--speculation", "off")),
            ("lepton exact, cache off", _PLAIN),
        ):
            server = self._lepton("exact", *options)
            yield engine, workloads.shared_prefix(server, prefix, suffixes)

    def _long_prompt(self) -> Iterator[tuple[str, Figures]]:
        """A prompt of 6,000 tokens among 8 decoding streams."""
        long = next(texts.prompts(self._model.tokenizer, LONG_TOKENS))
        prompts = self._next_prompts(DECODING)
        for precision in ("exact", "fast"):
            server = self._lepton(precision)
            yield f"lepton {precision}", workloads.long_prompt(server, prompts, long)

    def _lookup(self) -> Iterator[tuple[str, Figures]]:
        """Prompt lookup on and off, one stream."""
        for kind, prompts in questions.by_kind(self._model).items():
            on, texts_on = workloads.single(
                self._lepton("exact", "--no-prefix-cache"), prompts, 128
            )
            off, texts_off = workloads.single(self._lepton("exact", *_PLAIN), prompts, 128)
            same = sum(one == other for one, other in zip(texts_on, texts_off, strict=True))
            yield f"{kind}, lookup on", {**on, "identical": same / len(prompts)}
            yield f"{kind}, lookup off", off

    def _overload(self) -> Iterator[tuple[str, Figures]]:
        """80 % of the load for reference, then ten times the capacity for a minute."""
        capacity = self._capacity("exact", *_CALM)
        server = self._lepton("exact", *_CALM, "--max-queue-seconds", "0.3")
        calm, _ = workloads.poisson(server, self._next_prompts(CROWD), 0.8 * capacity)
        yield "lepton exact, 80 % load", calm
        prompts = self._next_prompts(CROWD)
        factor, seconds = OVERLOAD_FACTOR, OVERLOAD_SECONDS
        yield (
            "lepton exact, 10 × capacity",
            workloads.overload(server, prompts, factor * capacity, seconds),
        )

    def _of_peer(
        self, engine: str, measure: Callable[[], Figures]
    ) -> Iterator[tuple[str, Figures]]:
        try:
            yield engine, measure()
        except PeerError as error:
            self._tell(f"{engine}: {error}")

    def _capacity(self, precision: str, *options: str) -> float:
        """Requests per second when there are always enough of them."""
        server = self._lepton(precision, *options)
        figures, report = workloads.closed(server, self._next_prompts(CROWD))
        self._tell(f"lepton {precision}: {figures['tokens_per_second']:.0f} tokens/s at most")
        return len(report.answered) / report.seconds

    def _next_prompts(self, count: int) -> list[list[int]]:
        """Prompts that were not used before; from the start again when all were."""
        found = list(islice(self._prompts, count))
        if len(found) < count:
            self._prompts = texts.prompts(self._model.tokenizer, PROMPT_TOKENS)
            found += islice(self._prompts, count - len(found))
        return found

    def _lepton(self, precision: str, *options: str) -> Server:
        options = options or _PLAIN
        name = " ".join(("lepton", precision, *options))
        chosen = ("--precision", precision, *options)
        return self._server(name, lambda: servers.lepton(self._q4_1, *chosen, name=name))

    def _llama(self) -> Server:
        path = MODELS["smollm2-q4_0"].obtain()
        slots, context = LLAMA_SLOTS, LLAMA_CONTEXT
        return self._server(
            "llama-server",
            lambda: servers.llama(path, self._threads, slots=slots, context=context),
        )

    def _server(self, name: str, start: Callable[[], Any]) -> Server:
        if name not in self._servers:
            server: Server = self._stack.enter_context(start())
            workloads.run(server, [Call(server.completion([100, 200, 300], 4))])
            self._servers[name] = server
        return self._servers[name]

    def _in_process(self, kind: str, prompts: workloads.Prompts) -> Figures:
        if kind not in self._processes:
            self._processes[kind] = self._engine(kind)
            self._processes[kind].prepare()
        seconds = self._processes[kind].complete(self._q4_1, prompts, COMPLETION_TOKENS)
        return {
            "tokens_per_second": len(prompts) * COMPLETION_TOKENS / seconds,
            "seconds": seconds,
        }

    def _engine(self, kind: str) -> ResidentEngine:
        if kind == "openvino":
            return ResidentEngine(
                "openvino",
                "GenAI, continuous batching, prefix cache off",
                adapter="openvino",
                package="openvino-genai",
                threads=self._threads,
                environment=OPENVINO,
                options={"threads": self._threads, "prefix_cache": False},
            )
        options = {"precision": kind, "speculation": "off", "prefix_cache": False}
        return ResidentEngine(
            f"lepton {kind}",
            "in process",
            adapter="lepton",
            package="lepton",
            threads=self._threads,
            options=options,
        )


SERVING_WORKLOADS = ("closed", "poisson", "slo", "prefix", "long_prompt", "lookup", "overload")
