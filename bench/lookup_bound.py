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
    on for longest as the answer does, and drafts as much of that as makes the whole answer fastest.
    """
    seconds, tokens, steps = 0.0, 0, 0
    for prompt, answer in answers:
        # From the end: the least time for the tokens from each place on, and the steps in it.
        least, taken = [0.0] * (len(answer) + 1), [0] * (len(answer) + 1)
        for done in range(len(answer) - 1, 0, -1):
            right = _longest([*prompt, *answer[:done]], answer[done : done + MOST_TOKENS])
            least[done], taken[done] = min(
                (cost(drafted + 1) + least[done + drafted + 1], taken[done + drafted + 1] + 1)
                for drafted in range(min(right, len(answer) - done - 1) + 1)
            )
        seconds += least[1]
        steps += taken[1]
        tokens += len(answer) - 1
    return Bound(tokens * cost(1) / seconds, tokens / steps)


def _longest(known: Sequence[int], following: Sequence[int]) -> int:
    """How far what comes next goes on like what followed an earlier copy of the last token.

    What is found may go on into what comes next itself, as a loop does.
    """
    both = [*known, *following]
    longest = 0
    for place in range(1, len(known)):
        if known[place - 1] == known[-1]:
            same = 0
            while same < len(following) and both[place + same] == following[same]:
                same += 1
            longest = max(longest, same)
    return longest
