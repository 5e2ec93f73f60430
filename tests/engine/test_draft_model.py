from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton.engine.config import EngineConfig
from lepton.engine.core import EngineCore
from lepton.engine.draft_model import DraftModel
from lepton.engine.sampling_params import SamplingParams
from lepton.errors import ConfigurationError

GREEDY = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
PROMPTS = {
    name: [2 + (3 * place + number) % 20 for place in range(40)] + [5 + number]
    for number, name in enumerate("abc")
}


def drafting(toy: Any, executor: Any, *, draft_blocks: int = 64, **options: Any) -> EngineCore:
    """A core whose drafts come from ``executor``'s kind of model, at every step."""
    core = EngineCore(toy.make_model(), toy.make_config(speculation="off", **options))
    source = DraftModel(executor(draft_blocks), toy.VOCAB_SIZE, 512, 1.0)
    core.speculator = toy.EagerSpeculator(source, core.pacer, 5)
    return core


def source_of(core: EngineCore) -> DraftModel:
    assert core.speculator is not None
    assert isinstance(core.speculator.source, DraftModel)
    return core.speculator.source


def check_outputs(toy: Any, core: EngineCore, params: SamplingParams) -> None:
    """All prompts together are answered as each is alone without drafts."""
    for name, prompt in PROMPTS.items():
        core.add(core.make_request(name, prompt, params))
    outputs = toy.run_all(core)
    for name, prompt in PROMPTS.items():
        assert outputs[name].outputs == toy.run_one(prompt, params, speculation="off").outputs


def another(toy: Any) -> Any:
    """A model of the same vocabulary that thinks otherwise."""

    class Other(toy.HashExecutor):
        def _history(self, table: Any, last: int) -> list[int]:
            return [*super()._history(table, last), 1]

    return Other


@pytest.mark.parametrize(
    "params",
    [
        GREEDY,
        SamplingParams(temperature=0.8, seed=3, max_tokens=60, ignore_eos=True),
        SamplingParams(temperature=1.0, top_p=0.9, seed=4, max_tokens=60, n=2),
    ],
)
def test_a_model_that_drafts_for_itself_is_always_right(toy: Any, params: SamplingParams) -> None:
    core = drafting(toy, toy.HashExecutor)
    check_outputs(toy, core, params)
    stats = core.stats()
    assert stats.draft_tokens_total > 50
    assert stats.accepted_tokens_total == stats.draft_tokens_total
    assert source_of(core).pool.num_free == 64


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_another_model_changes_nothing(toy: Any, penalty: float) -> None:
    params = SamplingParams(
        temperature=0.7, seed=3, max_tokens=60, frequency_penalty=penalty, ignore_eos=True
    )
    core = drafting(toy, another(toy))
    check_outputs(toy, core, params)
    stats = core.stats()
    assert 0 < stats.accepted_tokens_total < 0.5 * stats.draft_tokens_total


def test_what_the_draft_has_read_is_shared(toy: Any) -> None:
    core = drafting(toy, toy.HashExecutor)
    executor = source_of(core).executor
    for name in "ab":
        core.add(core.make_request(name, PROMPTS["a"], GREEDY))
        toy.run_all(core)
        read = [batch.positions.tolist() for batch in executor.batches]  # type: ignore[attr-defined]
        executor.batches.clear()  # type: ignore[attr-defined]
        assert read[0][0] == (0 if name == "a" else 32)


def test_a_small_cache_goes_from_one_to_the_other(toy: Any) -> None:
    core = drafting(toy, toy.HashExecutor, draft_blocks=9)
    check_outputs(toy, core, GREEDY)
    source_of(core).check_integrity()
    assert core.stats().accepted_tokens_total > 0


def test_a_draft_that_fails_is_done_without(toy: Any) -> None:
    core = drafting(toy, toy.HashExecutor)
    source = source_of(core)
    for name in "ab":
        core.add(core.make_request(name, PROMPTS[name], GREEDY))
    for _ in range(4):
        core.step()
    source.executor.close()
    source.executor.forward = None  # type: ignore[method-assign,assignment]
    outputs = {}
    while core.has_work:
        for delta in core.step():
            outputs[delta.request_id] = delta.finish_reason
    assert outputs == {"a": "length", "b": "length"}
    assert source.pool.num_free == source.pool.num_blocks


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    arrivals=st.lists(
        st.tuples(
            st.integers(0, 30), st.sampled_from("abc"), st.integers(1, 41), st.integers(1, 60)
        ),
        min_size=1,
        max_size=7,
    ),
    leaves=st.sets(st.integers(0, 6), max_size=2),
    evictions=st.sets(st.integers(0, 50), max_size=4),
    faults=st.sets(st.integers(0, 50), max_size=2),
    restart=st.sampled_from([None, None, 15]),
    num_blocks=st.integers(10, 30),
    draft_blocks=st.integers(2, 30),
    same=st.booleans(),
    temperature=st.sampled_from([0.0, 0.7]),
)
def test_drafts_survive_chaos(
    toy: Any,
    arrivals: list[tuple[int, str, int, int]],
    leaves: set[int],
    evictions: set[int],
    faults: set[int],
    restart: int | None,
    num_blocks: int,
    draft_blocks: int,
    same: bool,
    temperature: float,
) -> None:
    """Cancels, preemptions, prefixes in the cache, faults of the draft, and a restart."""
    kind = toy.HashExecutor if same else another(toy)
    core = drafting(toy, kind, draft_blocks=draft_blocks, num_blocks=num_blocks, max_sequences=4)
    source = source_of(core)
    tokens: dict[str, list[int]] = {str(number): [] for number in range(len(arrivals))}
    reasons: dict[str, str] = {}
    params = [
        SamplingParams(temperature=temperature, seed=number, max_tokens=most, ignore_eos=True)
        for number, (_, _, _, most) in enumerate(arrivals)
    ]
    for now in range(2_000):
        deltas = []
        for number, (step, prompt, length, _) in enumerate(arrivals):
            if step == now:
                core.add(core.make_request(str(number), PROMPTS[prompt][:length], params[number]))
            if step + 12 == now and number in leaves:
                deltas += core.abort(str(number))
        if now in evictions:
            core.scheduler.preempt_all()
        if now in faults:
            source.executor.fail_next = RuntimeError("injected")  # type: ignore[attr-defined]
        deltas += core.restart("fault") if now == restart else core.step()
        for delta in deltas:
            tokens[delta.request_id] += delta.token_ids
            if delta.finish_reason is not None:
                reasons[delta.request_id] = delta.finish_reason
        core.scheduler.check_integrity()
        source.check_integrity()
        if len(reasons) == len(arrivals):
            break
    assert len(reasons) == len(arrivals)
    assert source.pool.num_free == draft_blocks
    assert core.pool.num_free == num_blocks
    for number, (_, prompt, length, _) in enumerate(arrivals):
        alone = toy.run_one(PROMPTS[prompt][:length], params[number], speculation="off")
        expected = list(alone.outputs[0].token_ids)
        mine = tokens[str(number)]
        assert mine == (expected if reasons[str(number)] == "length" else expected[: len(mine)])


def test_another_vocabulary_is_refused(toy: Any) -> None:
    model, draft = toy.make_model(), toy.make_model()
    draft.name = "stranger"

    def config() -> EngineConfig:
        return toy.make_config(speculation="draft", draft_model=draft)

    EngineCore(model, config()).close()
    draft.tokenizer.token_bytes = lambda token: b"x" if token == 7 else toy.PIECES[token]
    with pytest.raises(ConfigurationError, match=r"token 7 is .* for pieces and .* for stranger"):
        EngineCore(model, config())
    draft.tokenizer.vocab_size = 99
    with pytest.raises(ConfigurationError, match="stranger has a vocabulary of 99 tokens"):
        EngineCore(model, config())


@pytest.mark.parametrize(
    "options", [{"speculation": "draft"}, {"draft_model": "some-model"}, {"speculation": "guess"}]
)
def test_a_draft_model_and_its_use_belong_together(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="speculation"):
        EngineConfig(**options)
