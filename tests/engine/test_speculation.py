from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lepton.engine.core import EngineCore
from lepton.engine.draft_model import DraftModel
from lepton.engine.prompt_lookup import LookupSource
from lepton.engine.proposals import Proposal
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.speculation import Speculator
from lepton.engine.step_pacer import StepPacer

COPIED = [random.Random(7).randrange(50) for _ in range(400)]
NOISE = [random.Random(8).randrange(6) for _ in range(400)]


def pacer(*, one: float = 1.0, more: float = 0.1) -> StepPacer:
    """A machine on which a step takes so long for one row, and so much more for each other."""
    made = StepPacer(1.0)
    for rows in (1, 2, 4, 8, 16, 32, 64):
        made.note(rows, 0.0, one + (rows - 1) * more)
    return made


class Decoding:
    """As much of a sequence as the speculator looks at."""

    def __init__(self, token_ids: list[int], num_prompt: int) -> None:
        self.token_ids = list(token_ids)
        self.num_prompt = num_prompt
        self.num_pending = 1
        self.guess = None
        self.request = SimpleNamespace(max_tokens=10_000, request_id="a")

    @property
    def num_generated(self) -> int:
        return len(self.token_ids) - self.num_prompt


def follow(speculator: Speculator, sequence: Any, text: list[int]) -> list[int]:
    """Generate a known text; lengths of the drafts that were verified."""
    lengths = []
    while (place := sequence.num_generated) < len(text):
        draft = speculator.drafts([sequence]).get(sequence, [])
        lengths.append(len(draft))
        right = 0
        while right < len(draft) and draft[right : right + 1] == text[place + right :][:1]:
            right += 1
        sequence.token_ids += text[place : place + right + 1]
    return lengths


def test_copied_text_is_drafted_far_and_noise_is_not() -> None:
    speculator = Speculator(LookupSource(), pacer(), 8)
    copying = Decoding([*COPIED, COPIED[0]], 400)
    lengths = follow(speculator, copying, COPIED[:300])
    assert len(lengths) < 60
    assert max(lengths) == 8
    noisy = Decoding(NOISE[:1], 0)
    lengths = follow(Speculator(LookupSource(), pacer(more=0.3), 8), noisy, NOISE)
    assert sum(lengths[100:]) < 0.1 * len(lengths)


def test_speculation_comes_back_when_copying_begins() -> None:
    speculator = Speculator(LookupSource(), pacer(more=0.3), 8)
    text = [*NOISE[:200], *COPIED[:150]]
    sequence = Decoding([*COPIED, NOISE[0]], 400)
    lengths = follow(speculator, sequence, text)
    assert sum(lengths[100:190]) < 15
    assert max(lengths[-10:]) >= 4


class Priced:
    """A source whose tokens take time, from a text that is known; they may be wrong by one."""

    expected = (0.6,)

    def __init__(self, text: list[int], price: float) -> None:
        self.text = text
        self.price = price
        self.right = True
        self.num_proposed = 0
        self.behind = 0.0

    def seconds(self, num_sequences: int) -> float:
        return self.price

    def catch_up_seconds(self, sequence: Any) -> float:
        return self.behind

    def propose(self, sequences: Any, counts: Any) -> list[Proposal]:
        proposals = []
        for sequence, count in zip(sequences, counts, strict=True):
            tokens = self.text[sequence.num_generated :][:count]
            self.num_proposed += len(tokens)
            wrong = [token + 1 for token in tokens]
            proposals.append(Proposal(tokens if self.right else wrong, [0] * len(tokens)))
        return proposals

    def forget(self, sequence: Any, *, trusted: bool = True) -> None:
        """Nothing is kept."""

    clear = close = lambda self: None


def test_what_takes_time_is_asked_as_far_as_it_pays() -> None:
    cheap, dear = Priced(NOISE, 0.05), Priced(NOISE, 2.0)
    lengths = follow(Speculator(cheap, pacer(), 8), Decoding([9, *NOISE[:1]], 1), NOISE)
    assert max(lengths) == 8
    assert len(lengths) < 80
    follow(Speculator(dear, pacer(), 8), Decoding([9, *NOISE[:1]], 1), NOISE)
    assert dear.num_proposed == 0


def test_what_takes_time_is_tried_now_and_then_when_it_was_wrong() -> None:
    text = [*NOISE, *NOISE]
    source = Priced(text, 0.05)
    speculator, sequence = Speculator(source, pacer(), 8), Decoding([9, *NOISE[:1]], 1)
    source.right = False
    lengths = follow(speculator, sequence, NOISE)
    assert sum(lengths[100:]) < 10
    before = source.num_proposed
    assert before < len(NOISE) / 2
    source.right = True
    follow(speculator, sequence, text)
    assert source.num_proposed > before + 100


def test_trying_takes_a_small_share_of_the_time() -> None:
    source = Priced([*NOISE, *NOISE], 0.05)
    speculator, sequence = Speculator(source, pacer(), 8), Decoding([9, *NOISE[:1]], 1)
    source.right = False
    follow(speculator, sequence, NOISE[:100])
    before = source.num_proposed
    source.behind = 10.0
    follow(speculator, sequence, NOISE)
    assert source.num_proposed == before


def test_drafts_stop_where_rows_cost_as_much_as_tokens() -> None:
    many = [Decoding([*COPIED, *COPIED[:50]], 400) for _ in range(16)]
    assert Speculator(LookupSource(), pacer(more=0.9), 8).drafts(many) == {}
    assert Speculator(LookupSource(), pacer(more=0.01), 8).drafts(many)


def test_nothing_is_drafted_before_steps_were_measured_or_beyond_the_end() -> None:
    sequence = Decoding([*COPIED, *COPIED[:50]], 400)
    assert Speculator(LookupSource(), StepPacer(1.0), 8).drafts([sequence]) == {}
    sequence.request.max_tokens = 53
    (draft,) = Speculator(LookupSource(), pacer(), 8).drafts([sequence]).values()
    assert draft == COPIED[50:52]
    sequence.request.max_tokens = 51
    assert Speculator(LookupSource(), pacer(), 8).drafts([sequence]) == {}


def test_a_guess_that_fails_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    speculator = Speculator(LookupSource(), pacer(), 8)
    broken, fine = (Decoding([*COPIED, *COPIED[:50]], 400) for _ in range(2))
    assert set(speculator.drafts([broken, fine])) == {broken, fine}
    assert isinstance(speculator.source, LookupSource)
    monkeypatch.setattr(speculator.source._lookups[broken], "update", None)  # type: ignore[index]
    monkeypatch.setattr(speculator.source, "forget", lambda *_, trusted: None)
    broken.token_ids.append(COPIED[50])
    assert set(speculator.drafts([broken, fine])) == {fine}
    assert set(speculator.drafts([broken, fine])) == {fine}


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0, max_tokens=90, ignore_eos=True),
        SamplingParams(temperature=0, max_tokens=90, logprobs=2, stop=("ab", "the ")),
        SamplingParams(temperature=0.4, seed=3, max_tokens=90, min_tokens=30),
        SamplingParams(temperature=0, max_tokens=90, repetition_penalty=1.3, ignore_eos=True),
        SamplingParams(temperature=0.5, seed=9, max_tokens=90, frequency_penalty=0.4, n=2),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_drafts_change_nothing(toy: Any, params: SamplingParams, seed: int) -> None:
    core = EngineCore(toy.make_model(), toy.make_config(num_blocks=40))
    core.speculator = toy.Guesser(seed)
    prompts = {name: [5, 6, place + 2] * 6 for place, name in enumerate("abc")}
    for name, prompt in prompts.items():
        core.add(core.make_request(name, prompt, params))
    outputs = toy.run_all(core)
    for name, prompt in prompts.items():
        alone = toy.run_one(prompt, params, speculation="off")
        assert outputs[name].outputs == alone.outputs
    stats = core.stats()
    assert 0 < stats.accepted_tokens_total < stats.draft_tokens_total
    assert stats.steps < sum(output.usage.completion_tokens for output in outputs.values())
    assert core.pool.num_free == core.pool.num_blocks


@pytest.mark.parametrize("source", ["guesses", "draft model"])
def test_sampled_tokens_keep_their_distribution(toy: Any, source: str) -> None:
    """Two tokens sampled with drafts, over many seeds, against the exact probabilities.

    Pearson's chi-squared over the outcomes that are expected often enough; the limit is the
    99.9 % quantile by Wilson and Hilferty's approximation (doi:10.1073/pnas.17.12.684).
    """
    core = EngineCore(toy.make_model(), toy.make_config(max_sequences=64, max_step_tokens=512))
    core.speculator = toy.Guesser(1) if source == "guesses" else eager_draft(toy, core)
    samples, prompt = 2500, [5, 6, 7]
    for number in range(samples):
        params = SamplingParams(seed=number, max_tokens=4, top_k=6, ignore_eos=True)
        core.add(core.make_request(str(number), prompt, params))
    counted = Counter(output.outputs[0].token_ids[1:3] for output in toy.run_all(core).values())
    assert core.stats().accepted_tokens_total > samples / 10
    expected: dict[tuple[int, int], float] = {}
    for zeroth, chance in probabilities(toy, prompt, 6):
        for first, chance_1 in probabilities(toy, [*prompt, zeroth], 6):
            for second, chance_2 in probabilities(toy, [*prompt, zeroth, first], 6):
                pair = (first, second)
                expected[pair] = expected.get(pair, 0.0) + samples * chance * chance_1 * chance_2
    often = {pair: count for pair, count in expected.items() if count >= 8}
    rest = samples - sum(often.values())
    rest_counted = samples - sum(counted[pair] for pair in often)
    statistic = sum((counted[pair] - count) ** 2 / count for pair, count in often.items())
    statistic += (rest_counted - rest) ** 2 / rest
    freedom = len(often)
    limit = freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert freedom > 30
    assert statistic < limit


def eager_draft(toy: Any, core: EngineCore) -> Any:
    """Verifies all that a draft model proposes which thinks much, not quite, like the model."""

    class Alike(toy.HashExecutor):
        def forward(self, batch: Any) -> Any:
            logits = super().forward(batch)
            kept = logits > np.finfo(np.float32).min
            return np.where(kept, logits + np.sin(np.arange(self.vocab_size)), logits).astype("f4")

    return toy.EagerSpeculator(DraftModel(Alike(256), toy.VOCAB_SIZE, 512, 1.0), core.pacer, 2)


def probabilities(toy: Any, history: list[int], top_k: int) -> list[tuple[int, float]]:
    logits = toy.history_logits(history).astype(np.float64)
    best = np.argsort(-logits)[:top_k]
    weights = np.exp(logits[best] - logits[best].max())
    return list(zip(best.tolist(), (weights / weights.sum()).tolist(), strict=True))
