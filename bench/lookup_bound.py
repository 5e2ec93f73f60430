"""What prompt lookup could gain at most: what binds the workload `lookup` of `bench serving`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.serving import questions
from bench.tables import Table
from lepton import LLM, SamplingParams
from lepton.models.executors.base import Precision

MODEL = "smollm2-135m-instruct"
COMPLETION_TOKENS = 128
MOST_TOKENS = 16
"""Of a draft."""
PRECISIONS: tuple[Precision, ...] = ("exact", "fast")

Cost = Callable[[int], float]
"""Seconds of a step of so many rows."""


@dataclass(frozen=True)
class Bound:
    """Of the prompts of one kind."""

    ratio: float
    """Times the speed without drafts."""
    tokens_per_step: float


def table() -> Table:
    """The bound of every kind of prompt in every precision, with the costs of this machine."""
    rows = []
    for precision in PRECISIONS:
        with LLM(MODEL, precision=precision) as llm:
            params = SamplingParams(temperature=0, max_tokens=COMPLETION_TOKENS)
            kinds = questions.by_kind(llm.model)
            answers = {
                kind: [list(each.outputs[0].token_ids) for each in llm.generate(prompts, params)]
                for kind, prompts in kinds.items()
            }
            for prompts in kinds.values():  # One at a time, so that steps of few rows are measured.
                for prompt in prompts:
                    llm.generate(prompt, params)
            cost = llm._core.pacer.decode_seconds
            for kind, prompts in kinds.items():
                bound = best(list(zip(prompts, answers[kind], strict=True)), cost)
                rows.append((precision, kind, f"{bound.ratio:.2f}", f"{bound.tokens_per_step:.2f}"))
    headers = ("precision", "prompts", "times the speed, at most", "tokens a step")
    return Table("lookup", headers, tuple(rows), 2)


def best(answers: Sequence[tuple[Sequence[int], Sequence[int]]], cost: Cost) -> Bound:
    """The bound for pairs of prompt and answer, if steps of so many rows take what ``cost`` says.

    At each step the guesser knows which of the places after an earlier copy of the last token goes
    on for longest as the answer does, and drafts as many of those tokens as pay.
    """
    seconds = tokens = steps = 0.0
    for prompt, answer in answers:
        known, done = [*prompt, *answer[:1]], 1
        while done < len(answer):
            right = _longest(known, answer[done : done + MOST_TOKENS])
            drafted = max(range(right + 1), key=lambda count: (count + 1) / cost(count + 1))
            new = answer[done : done + drafted + 1]
            known += new
            done += len(new)
            seconds += cost(drafted + 1)
            tokens += len(new)
            steps += 1
    return Bound(tokens * cost(1) / seconds, tokens / steps)


def _longest(known: Sequence[int], following: Sequence[int]) -> int:
    """How far what comes next goes on like what followed an earlier copy of the last token."""
    longest = 0
    for place in range(1, len(known)):
        if known[place - 1] == known[-1]:
            pairs = zip(known[place:], following, strict=False)
            same = next((n for n, (left, right) in enumerate(pairs) if left != right), None)
            if same is None:
                same = min(len(known) - place, len(following))
            longest = max(longest, same)
    return longest
