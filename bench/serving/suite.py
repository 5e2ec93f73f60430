"""Every workload of serving, engine by engine and round by round, into one results file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bench.machine import same_machine
from bench.models import MODELS
from bench.peers import PeerError
from bench.serving import questions, texts, workloads
from bench.serving.engines import PLAIN, Engines
from bench.serving.servers import Server
from bench.serving.workloads import COMPLETION_TOKENS, PROMPT_TOKENS, Figures, Prompts
from lepton.files import replaced
from lepton.models.loader import Model, load_model

PRECISIONS = ("exact", "fast")
STREAMS, CROWD = 16, 64
SLO_PROMPTS, SLO_TRIALS, SLO_SECONDS = 200, 5, 20.0
PREFIX_TOKENS, SUFFIX_TOKENS = 1000, 20
LONG_TOKENS, DECODING = 6000, 8
OVERLOAD_FACTOR, OVERLOAD_SECONDS = 10.0, 60.0
_CALM = (*PLAIN, "--max-sequences", "4", "--cache-memory", "512M")
"""Few streams at once, so that those which are let in are as fast as ever."""
_REFUSING = (*_CALM, "--max-queue-seconds", "0.3")
SERVING_WORKLOADS = {
    "closed": 3,
    "poisson": 1,
    "slo": 1,
    "prefix": 1,
    "long_prompt": 1,
    "lookup": 5,
    "overload": 1,
}
"""The rounds of each: those of few requests are noisy alone."""

Tell = Callable[[str], object]
Part = tuple[str, Callable[[], Figures]]
"""An engine of a workload, and what measures it."""


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

    def has(self, workload: str, engine: str, round_number: int) -> bool:
        """Whether that was measured."""
        return len(self.figures(workload, engine)) >= round_number

    def save(self, path: Path) -> None:
        """Replace the file at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as part:
            part.write_text(json.dumps(asdict(self), indent=1) + "\n")


def lookup_name(kind: str, precision: str) -> str:
    """What prompt lookup with prompts of a kind is called; exact is not named."""
    return kind if precision == "exact" else f"{kind}, {precision}"


def load_results(path: Path) -> ServingResults:
    """What an earlier run has saved; empty when there is none."""
    return ServingResults(**json.loads(path.read_text())) if path.exists() else ServingResults()


class Suite:
    """One run of the bench. What an earlier run left in the results is not measured again."""

    def __init__(self, results: ServingResults, file: Path, tell: Tell) -> None:
        results.machine = same_machine(results.machine, file)
        self._results = results
        self._file = file
        self._tell = tell
        self._model: Model = load_model(MODELS["smollm2-q4_1"].obtain())
        self._prompts = texts.prompts(self._model.tokenizer, PROMPT_TOKENS)
        self._engines = Engines(self._next_prompts(STREAMS))
        self._lepton = self._engines.lepton

    def close(self) -> None:
        """End every process."""
        self._engines.close()
        self._model.close()

    def measure(self, name: str, round_number: int) -> None:
        """One round of a workload, as far as it is missing."""
        for engine, measure in getattr(self, f"_{name}")():
            if self._results.has(name, engine, round_number):
                continue
            try:
                figures = measure()
            except PeerError as error:
                self._tell(f"{engine}: {error}")
                continue
            self._results.samples.append(
                {"workload": name, "engine": engine, "round": round_number, "figures": figures}
            )
            self._results.save(self._file)
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            self._tell(f"{name}, round {round_number}, {engine}: {shown}")

    def _closed(self) -> Iterator[Part]:
        """16 streams at once over HTTP, and in process."""
        prompts = self._next_prompts(STREAMS)

        def over_http(start: Callable[[], Server]) -> Figures:
            return workloads.closed(start(), prompts)[0]

        in_process = self._engines.in_process
        for precision in PRECISIONS:
            yield (
                f"lepton {precision}",
                partial(over_http, partial(self._lepton, precision)),
            )
            yield f"lepton {precision}, in process", partial(in_process, precision, prompts)
        yield "llama-server", partial(over_http, self._engines.llama)
        yield "openvino, in process", partial(in_process, "openvino", prompts)

    def _poisson(self) -> Iterator[Part]:
        """64 streams as a Poisson process at 80 % of what the server can bear."""

        def measure(precision: str) -> Figures:
            rate = 0.8 * self._capacity(precision)
            prompts = self._next_prompts(CROWD)
            figures, _ = workloads.poisson(self._lepton(precision), prompts, rate)
            return {"gap_ratio": figures["gap_p99"] / figures["gap_p50"], **figures}

        for precision in PRECISIONS:
            yield f"lepton {precision}", partial(measure, precision)

    def _slo(self) -> Iterator[Part]:
        """The highest Poisson rate that serves 95 % well."""
        prompts = self._next_prompts(SLO_PROMPTS)

        def measure(start: Callable[[], Server], first: float) -> Figures:
            trials = workloads.highest_rate(start(), prompts, first, SLO_TRIALS, SLO_SECONDS)
            enough = [trial.rate for trial in trials if trial.good >= workloads.SLO_SHARE]
            rates = {f"good_at_{trial.rate:.2f}": trial.good for trial in trials}
            return {"rate": max(enough, default=0.0), **rates}

        for precision in PRECISIONS:
            yield (
                f"lepton {precision}",
                partial(measure, partial(self._lepton, precision), 4.0),
            )
        yield "llama-server", partial(measure, self._engines.llama, 0.8)

    def _prefix(self) -> Iterator[Part]:
        """16 requests that share 1,000 tokens, warm, with the cache on and off."""
        prefix = next(texts.prompts(self._model.tokenizer, PREFIX_TOKENS))
        suffixes = [each[:SUFFIX_TOKENS] for each in self._next_prompts(STREAMS + 1)]

        def measure(*options: str) -> Figures:
            return workloads.shared_prefix(self._lepton("exact", *options), prefix, suffixes)

        yield "lepton exact, cache on", partial(measure, "--speculation", "off")
        yield "lepton exact, cache off", partial(measure, *PLAIN)

    def _long_prompt(self) -> Iterator[Part]:
        """A prompt of 6,000 tokens among 8 decoding streams."""
        tokenizer = self._model.tokenizer
        long = tokenizer.decode(next(texts.prompts(tokenizer, LONG_TOKENS)))
        prompts = self._next_prompts(DECODING)

        def measure(precision: str) -> Figures:
            return workloads.long_prompt(self._lepton(precision), prompts, long)

        for precision in PRECISIONS:
            yield f"lepton {precision}", partial(measure, precision)

    def _lookup(self) -> Iterator[Part]:
        """Prompt lookup on and off, one stream."""

        def measure(precision: str, prompts: Prompts) -> Figures:
            servers = {"on": self._lepton(precision, "--no-prefix-cache")}
            servers["off"] = self._lepton(precision)
            found: dict[str, list[workloads.Single]] = {"on": [], "off": []}
            for prompt in prompts:
                # Prompt by prompt, so that both meet the machine as it is at the time, and each
                # is the first of a pair as often as the other.
                for name in reversed(found) if len(found["on"]) % 2 else found:
                    found[name].append(workloads.single(servers[name], prompt, COMPLETION_TOKENS))
            on, off = map(workloads.speed, found.values())
            same = [one.text == other.text for one, other in zip(*found.values(), strict=True)]
            return {
                "tokens_per_second": on,
                "without_lookup": off,
                "ratio": on / off,
                "identical": sum(same) / len(same),
            }

        for precision in PRECISIONS:
            for kind, prompts in questions.by_kind(self._model).items():
                yield lookup_name(kind, precision), partial(measure, precision, prompts)

    def _overload(self) -> Iterator[Part]:
        """80 % of the load for reference, then ten times the capacity for a minute."""

        def measure(precision: str) -> Figures:
            capacity = self._capacity(precision, *_CALM)
            server = self._lepton(precision, *_REFUSING)
            calm, _ = workloads.poisson(server, self._next_prompts(CROWD), 0.8 * capacity)
            rate = OVERLOAD_FACTOR * capacity
            figures = workloads.overload(server, self._next_prompts(CROWD), rate, OVERLOAD_SECONDS)
            compared = ("first_token_p99", "gap_p99", "seconds_p99")
            ratios = {f"{name}_ratio": figures[name] / calm[name] for name in compared}
            return {**ratios, **figures, **{f"{name}_calm": calm[name] for name in compared}}

        yield "lepton exact", partial(measure, "exact")

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
