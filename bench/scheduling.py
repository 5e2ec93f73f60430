"""What the prefix cache, bounded steps and prompt lookup are worth, inside one process.

    python -m bench.scheduling prefix   sixteen prompts that share 1,000 tokens: cached or not
    python -m bench.scheduling gap      a prompt of 6,000 tokens beside eight completions
    python -m bench.scheduling lookup   prompt lookup on and off, task by task
    python -m bench.scheduling draft    the model as its own draft, always right and never worth it

SmolLM2-135M from the catalogue and texts of this repository. Variants take turns; values are
medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.lookup_tasks import TASKS
from lepton.engine import EngineConfig, SamplingParams, encode_chat
from lepton.engine.core import EngineCore
from lepton.models.catalogue import pull
from lepton.models.loader import Model, load_model

_REPOSITORY = Path(__file__).parents[1]
_PREFIX, _SUFFIX, _REQUESTS = 1000, 20, 16
_LONG_PROMPT, _STREAMS = 6000, 8
_ANSWER = 256
_TEXTS = ("docs/performance.md", "README.md", "CONTRIBUTING.md", "src/lepton/engine/core.py")

_console = Console(highlight=False)
Options = Mapping[str, Any]


@dataclass
class Timeline:
    """When the tokens of each request came, in seconds, and which they were."""

    started: float = field(default_factory=time.perf_counter)
    arrived: dict[str, float] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)

    def add(self, core: EngineCore, name: str, prompt: list[int], params: SamplingParams) -> None:
        """Queue a request."""
        self.arrived[name] = time.perf_counter() - self.started
        self.times[name], self.tokens[name] = [], []
        core.add(core.make_request(name, prompt, params))

    def step(self, core: EngineCore) -> None:
        """Compute a step and note what came; several tokens of one step came together."""
        deltas = core.step()
        now = time.perf_counter() - self.started
        for delta in deltas:
            if delta.token_ids:
                self.times[delta.request_id].append(now)
                self.tokens[delta.request_id] += delta.token_ids

    def run(self, core: EngineCore) -> None:
        """Step until nothing is left."""
        while core.has_work:
            self.step(core)

    def first_token(self, name: str) -> float:
        """Time from a request's arrival to its first token."""
        return self.times[name][0] - self.arrived[name]


def main() -> None:
    """Run one of the measurements."""
    measurements = {
        "prefix": measure_prefix,
        "gap": measure_gap,
        "lookup": measure_lookup,
        "draft": measure_draft,
    }
    parser = argparse.ArgumentParser(
        prog="python -m bench.scheduling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=list(measurements))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("exact", "fast"), default="exact")
    arguments = parser.parse_args()
    options = {"precision": arguments.precision, "cache_memory": 768 * 2**20}
    with load_model(pull("smollm2-135m-instruct")) as model:
        measurements[arguments.what](model, arguments.rounds, options)


def measure_prefix(model: Model, rounds: int, options: Options) -> None:
    """Sixteen requests with a common beginning and ends of their own, all at once."""
    text = _text(model)
    beginning, rest = text[:_PREFIX], text[_PREFIX:]
    prompts = [
        beginning + rest[_SUFFIX * index : _SUFFIX * (index + 1)] for index in range(_REQUESTS)
    ]
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    found: dict[str, list[float]] = {"cache off": [], "cold": [], "warm": []}
    completions = set()
    for _ in range(rounds):
        for names, cached in ((("cache off",), False), (("cold", "warm"), True)):
            with _core(model, options, prefix_cache=cached) as core:
                for name in names:
                    timeline = Timeline()
                    for index, prompt in enumerate(prompts):
                        timeline.add(core, str(index), prompt, params)
                    timeline.run(core)
                    first = [timeline.first_token(each) for each in timeline.times]
                    found[name].append(1000 * statistics.mean(first))
                    completions.add(tuple(map(tuple, timeline.tokens.values())))
    off = statistics.median(found["cache off"])
    _print(
        f"{_REQUESTS} requests that share {_PREFIX:,} tokens and end in {_SUFFIX} of their own",
        ("", "mean time to first token, ms", "beside cache off"),
        [
            (name, f"{statistics.median(values):.0f}", f"{statistics.median(values) / off:.2f}")
            for name, values in found.items()
        ],
    )
    _console.print(f"completions equal in all runs: {len(completions) == 1}")


def measure_gap(model: Model, rounds: int, options: Options) -> None:
    """Eight completions, and a long prompt that arrives among them."""
    found = []
    for _ in range(rounds):
        with _core(model, options) as core:
            found.append(_long_prompt_among_streams(core, _text(model)))
    gaps = sorted(gap for gaps, _ in found for gap in gaps)
    _print(
        f"a prompt of {_LONG_PROMPT:,} tokens among {_STREAMS} completions, all rounds together",
        ("median gap, ms", "p99, ms", "largest, ms", "long prompt's first token, s"),
        [
            (
                f"{1000 * statistics.median(gaps):.0f}",
                f"{1000 * gaps[int(0.99 * len(gaps))]:.0f}",
                f"{1000 * gaps[-1]:.0f}",
                f"{statistics.median(first for _, first in found):.2f}",
            )
        ],
    )


def _long_prompt_among_streams(core: EngineCore, text: list[int]) -> tuple[list[float], float]:
    """The gaps of the streams while a long prompt is read, and how long it takes."""
    timeline = Timeline()
    params = SamplingParams(temperature=0, max_tokens=1500, ignore_eos=True)
    for index in range(_STREAMS):
        timeline.add(core, str(index), text[100 * index : 100 * (index + 1)], params)
    while min(map(len, timeline.times.values())) < 30:
        timeline.step(core)
    timeline.add(core, "long", text[:_LONG_PROMPT], SamplingParams(temperature=0, max_tokens=1))
    while not timeline.times["long"]:
        timeline.step(core)
    for _ in range(3):
        timeline.step(core)
    begin = timeline.arrived["long"]
    streams = [times for name, times in timeline.times.items() if name != "long"]
    gaps = [
        later - sooner for times in streams for sooner, later in pairwise(times) if later > begin
    ]
    return gaps, timeline.first_token("long")


def measure_lookup(model: Model, rounds: int, options: Options) -> None:
    """Prompt lookup beside nothing."""
    _measure_speculation(model, rounds, options, "lookup")


def measure_draft(model: Model, rounds: int, options: Options) -> None:
    """The model as its own draft beside nothing: what a draft costs that cannot pay."""
    _measure_speculation(model, rounds, {**options, "draft_model": model}, "draft")


def _measure_speculation(model: Model, rounds: int, options: Options, kind: str) -> None:
    """Decoding one completion after the other, with speculation and without."""
    rows = []
    with ExitStack() as stack:
        cores = {
            name: stack.enter_context(
                _core(model, chosen, speculation=name, prefix_cache=False, max_sequences=1)
            )
            for name, chosen in (("off", {**options, "draft_model": None}), (kind, options))
        }
        for task, conversations in TASKS.items():
            prompts = [encode_chat(model, conversation) for conversation in conversations]
            speeds: dict[str, list[float]] = {name: [] for name in cores}
            completions = set()
            before = cores[kind].stats()
            for _ in range(rounds):
                for name, core in cores.items():
                    speed, tokens = _decode(core, prompts)
                    speeds[name].append(speed)
                    completions.add(tokens)
            after = cores[kind].stats()
            drafted = after.draft_tokens_total - before.draft_tokens_total
            accepted = after.accepted_tokens_total - before.accepted_tokens_total
            generated = after.generation_tokens_total - before.generation_tokens_total
            pairs = zip(speeds[kind], speeds["off"], strict=True)
            rows.append(
                (
                    task,
                    f"{statistics.median(speeds['off']):.0f}",
                    f"{statistics.median(speeds[kind]):.0f}",
                    f"{statistics.median(on / off for on, off in pairs):.2f}",
                    f"{accepted / drafted:.0%}" if drafted else "–",
                    f"{accepted / generated:.0%}",
                    "yes" if len(completions) == 1 else "NO",
                )
            )
    _print(
        "decode, one completion at a time, greedy",
        (
            "task",
            "off, tokens/s",
            f"{kind}, tokens/s",
            "ratio",
            "drafted tokens that were right",
            "of all tokens",
            "same tokens",
        ),
        rows,
    )


def _decode(
    core: EngineCore, prompts: list[list[int]]
) -> tuple[float, tuple[tuple[int, ...], ...]]:
    """Tokens per second after the first token, and all tokens."""
    seconds, count, completions = 0.0, 0, []
    for prompt in prompts:
        timeline = Timeline()
        timeline.add(core, "a", prompt, SamplingParams(temperature=0, max_tokens=_ANSWER))
        timeline.run(core)
        seconds += timeline.times["a"][-1] - timeline.times["a"][0]
        count += len(timeline.tokens["a"]) - 1
        completions.append(tuple(timeline.tokens["a"]))
    return count / seconds, tuple(completions)


@contextmanager
def _core(model: Model, options: Options, **more: Any) -> Iterator[EngineCore]:
    """An engine that has run before: its cache is in memory and its first steps are measured."""
    core = EngineCore(model, EngineConfig(**{**options, **more}))
    try:
        timeline = Timeline()
        params = SamplingParams(temperature=0, max_tokens=32, ignore_eos=True)
        timeline.add(core, "warm-up", list(range(1000, 1512)), params)
        timeline.run(core)
        yield core
    finally:
        core.close()


def _text(model: Model) -> list[int]:
    """Tokens of this repository's texts, enough for the longest prompt."""
    tokens = [
        token
        for name in _TEXTS
        for token in model.tokenizer.encode((_REPOSITORY / name).read_text("utf-8"))
    ]
    if len(tokens) < _LONG_PROMPT:
        raise SystemExit(f"{', '.join(_TEXTS)} have {len(tokens)} tokens, not {_LONG_PROMPT}")
    return tokens


def _print(title: str, headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    shown = Table(title=title, title_justify="left")
    for number, header in enumerate(headers):
        shown.add_column(header, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*row)
    _console.print(shown)


if __name__ == "__main__":
    main()
