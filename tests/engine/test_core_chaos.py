"""Whatever happens beside a request, it gets what it would get alone."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton.engine.core import EngineCore
from lepton.engine.merging import RequestCollector
from lepton.engine.request_options import RequestOptions
from lepton.engine.sampling_params import SamplingParams

PREFIXES = [[2 + (3 * place + kind) % 20 for place in range(70)] for kind in range(2)]


@dataclass(frozen=True)
class Visit:
    """A request, when it comes and when its reader leaves."""

    step: int
    prompt: list[int]
    params: SamplingParams
    options: RequestOptions
    leaves: int


prompts = st.builds(
    lambda kind, length, end: PREFIXES[kind][:length] + end,
    st.integers(0, 1),
    st.integers(0, 70),
    st.lists(st.integers(2, 20), min_size=1, max_size=20),
)
parameters = st.builds(
    SamplingParams,
    max_tokens=st.integers(0, 40),
    temperature=st.sampled_from([0.0, 0.6]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    seed=st.integers(0, 3),
    stop=st.sampled_from([(), ("ab",), ("a", "the ")]),
    n=st.integers(1, 2),
    ignore_eos=st.booleans(),
)
options = st.builds(
    RequestOptions,
    tenant=st.sampled_from(["", "a", "b"]),
    priority=st.integers(-1, 1),
    cache_salt=st.sampled_from([None, "shared"]),
)
visits = st.builds(
    lambda step, prompt, params, options, stays: Visit(step, prompt, params, options, step + stays),
    st.integers(0, 40),
    prompts,
    parameters,
    options,
    st.sampled_from([1, 5, 20, 10_000, 10_000, 10_000]),
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    visits=st.lists(visits, min_size=1, max_size=9),
    num_blocks=st.integers(9, 30),
    max_sequences=st.integers(1, 5),
    max_step_tokens=st.integers(6, 80),
    prefix_cache=st.booleans(),
    faults=st.sets(st.integers(0, 60), max_size=4),
    evictions=st.sets(st.integers(0, 60), max_size=3),
    seed=st.integers(0, 9),
    spilled_blocks=st.sampled_from([0, 0, 3, 50]),
)
def test_completions_survive_chaos(
    toy: Any,
    visits: list[Visit],
    num_blocks: int,
    max_sequences: int,
    max_step_tokens: int,
    prefix_cache: bool,
    faults: set[int],
    evictions: set[int],
    seed: int,
    spilled_blocks: int,
) -> None:
    """Arrivals, cancels, drafts, priorities, tenants, common prefixes, full caches and faults."""
    spill = {"cache_spill": Path(tempfile.gettempdir()), "cache_spill_bytes": 256 * spilled_blocks}
    core = EngineCore(
        toy.make_model(140),
        toy.make_config(
            num_blocks,
            max_sequences=max_sequences,
            max_step_tokens=max_step_tokens,
            prefix_cache=prefix_cache,
            **(spill if spilled_blocks and prefix_cache else {}),
        ),
    )
    core.speculator = toy.Guesser(seed)
    collectors: dict[str, RequestCollector] = {}
    done: set[str] = set()
    for now in range(5_000):
        deltas = []
        for number, visit in enumerate(visits):
            if visit.step == now:
                name = str(number)
                request = core.make_request(name, visit.prompt, visit.params, options=visit.options)
                collectors[name] = RequestCollector(name, request.prompt_token_ids)
                core.add(request)
            if visit.leaves == now:
                deltas += core.abort(str(number))
        if now in faults:
            core.executor.fail_next = MemoryError("injected")
        if now in evictions:
            core.scheduler.preempt_all()
        deltas += core.step()
        core.executor.fail_next = None
        for delta in deltas:
            assert delta.request_id not in done
            if collectors[delta.request_id].add(delta):
                done.add(delta.request_id)
        core.scheduler.check_integrity()
        if len(done) == len(visits):
            break
    assert len(done) == len(visits)
    assert core.pool.num_free == core.pool.num_blocks
    assert core.num_queued == 0
    core.close()
    for number, visit in enumerate(visits):
        output = collectors[str(number)].output()
        alone = toy.run_one(visit.prompt, visit.params, speculation="off")
        for mine, other in zip(output.outputs, alone.outputs, strict=True):
            if mine.finish_reason in ("cancelled", "error"):
                assert other.token_ids[: len(mine.token_ids)] == mine.token_ids
            else:
                assert mine == other
        if not faults:
            assert all(each.finish_reason != "error" for each in output.outputs)


def test_a_fault_of_one_step_ends_nobody_beside_others(toy: Any) -> None:
    core = EngineCore(toy.make_model(), toy.make_config())
    params = SamplingParams(temperature=0, max_tokens=30, repetition_penalty=1.2, ignore_eos=True)
    core.speculator = toy.Guesser(1)
    for name, token in (("a", 5), ("b", 6)):
        core.add(core.make_request(name, [token] * 20, params))
    collectors = {name: RequestCollector(name, ()) for name in "ab"}
    for number in range(100):
        if number % 3 == 2 and len(core.scheduler.running) == 2:
            core.executor.fail_next = RuntimeError("injected")
        for delta in core.step():
            collectors[delta.request_id].add(delta)
    for name, token in (("a", 5), ("b", 6)):
        assert collectors[name].output().outputs == toy.run_one([token] * 20, params).outputs
    assert core.stats().failed_steps_total > 2
