from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from lepton.engine.block_hashes import BlockHashes
from lepton.engine.block_pool import BlockPool
from lepton.engine.request_options import RequestOptions
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.scheduler import Scheduler
from lepton.engine.sequence import Request, Sequence
from lepton.engine.step_pacer import StepPacer
from lepton.engine.step_plan import Chunk
from lepton.models.executors.base import BLOCK_SIZE


def make_request(
    prompt_tokens: int,
    n: int = 1,
    *,
    echo_logprobs: bool = False,
    tenant: str = "",
    priority: int = 0,
    salt: str | None = None,
) -> Request:
    request = Request(
        request_id="a",
        prompt_token_ids=tuple(range(prompt_tokens)),
        params=SamplingParams(n=n),
        seed=0,
        max_tokens=100,
        stop_token_ids=frozenset(),
        echo_logprobs=echo_logprobs,
        options=RequestOptions(tenant=tenant, priority=priority),
    )
    if salt is not None:
        request.hashes = BlockHashes(salt)
    request.sequences = [Sequence(request, index, text=None) for index in range(n)]  # type: ignore[arg-type]
    return request


def fast_pacer() -> StepPacer:
    """Of a machine that is never short of time."""
    pacer = StepPacer(1e6)
    pacer.note(0, 1.0, 1e-9)
    return pacer


def make_scheduler(
    num_blocks: int = 100,
    max_sequences: int = 8,
    max_step_tokens: int = 64,
    max_logit_rows: int = 64,
    pacer: StepPacer | None = None,
) -> Scheduler:
    return Scheduler(
        BlockPool(num_blocks),
        max_sequences=max_sequences,
        max_step_tokens=max_step_tokens,
        max_logit_rows=max_logit_rows,
        pacer=pacer or fast_pacer(),
    )


def queue(scheduler: Scheduler, *requests: Request) -> list[Sequence]:
    sequences = [sequence for request in requests for sequence in request.sequences]
    for sequence in sequences:
        scheduler.add(sequence)
    return sequences


def step(scheduler: Scheduler) -> list[Chunk]:
    """Schedule, pretend that it was computed, and sample a token where one is due."""
    chunks = scheduler.schedule().chunks
    for chunk in chunks:
        chunk.sequence.num_computed = chunk.end
        scheduler.publish(chunk.sequence)
        if chunk.sequence.num_pending == 0:
            chunk.sequence.token_ids.append(0)
    scheduler.check_integrity()
    return chunks


def shape(chunks: SequenceOf[Chunk]) -> list[tuple[int, int, int, int]]:
    """In the order of arrival, which is not that of the batch."""
    return sorted(
        (chunk.sequence.arrival, chunk.start, chunk.count, chunk.num_logits) for chunk in chunks
    )


def test_long_prompts_are_read_in_chunks_beside_decoding() -> None:
    scheduler = make_scheduler()
    queue(scheduler, make_request(10), make_request(100), make_request(5))
    assert shape(step(scheduler)) == [(1, 0, 10, 1), (2, 0, 54, 0)]
    assert shape(step(scheduler)) == [(1, 10, 1, 1), (2, 54, 46, 1), (3, 0, 5, 1)]
    assert shape(step(scheduler)) == [(1, 11, 1, 1), (2, 100, 1, 1), (3, 5, 1, 1)]


def test_admission_is_in_order_even_when_a_later_one_would_fit() -> None:
    scheduler = make_scheduler(num_blocks=8)
    queue(scheduler, make_request(60), make_request(70), make_request(3))
    assert shape(step(scheduler)) == [(1, 0, 60, 1)]
    assert shape(step(scheduler)) == [(1, 60, 1, 1)]
    scheduler.remove(scheduler.running[0])
    assert shape(step(scheduler)) == [(2, 0, 64, 0)]
    assert shape(step(scheduler)) == [(2, 64, 6, 1), (3, 0, 3, 1)]


def test_no_more_sequences_than_allowed() -> None:
    scheduler = make_scheduler(max_sequences=2)
    queue(scheduler, make_request(1), make_request(1), make_request(1))
    assert len(step(scheduler)) == 2
    assert (len(scheduler.running), len(scheduler.waiting)) == (2, 1)


def test_the_youngest_is_preempted_and_comes_back_first() -> None:
    scheduler = make_scheduler(num_blocks=5)
    oldest, youngest, waiting = queue(
        scheduler, make_request(16), make_request(30), make_request(60)
    )
    step(scheduler)
    step(scheduler)
    assert scheduler.pool.num_free == 1
    for _ in range(15):
        step(scheduler)
    assert scheduler.num_preemptions == 0 or youngest not in scheduler.running
    while youngest in scheduler.running:
        step(scheduler)
    kept = list(youngest.token_ids)
    assert list(scheduler.waiting) == [youngest, waiting]
    assert (youngest.block_table, youngest.num_computed) == ([], 0)
    assert oldest in scheduler.running
    scheduler.remove(oldest)
    cached = (len(kept) - 1) // BLOCK_SIZE * BLOCK_SIZE
    assert shape(step(scheduler)) == [(2, cached, len(kept) - cached, 1)]
    assert youngest.token_ids[:-1] == kept


def test_its_own_blocks_found_after_a_preemption_are_no_hits() -> None:
    scheduler = make_scheduler(max_step_tokens=64)
    (sequence,) = queue(scheduler, make_request(200))
    step(scheduler)
    step(scheduler)
    scheduler.preempt_all()
    step(scheduler)
    assert sequence.num_computed > 128, "it found what it had computed"
    assert sequence.num_cached_tokens == 0
    assert (scheduler.num_cached_tokens, scheduler.num_looked_up_tokens) == (0, 200)


def test_the_oldest_that_waits_has_never_run() -> None:
    scheduler = make_scheduler(max_sequences=1)
    first, second, third = (make_request(10) for _ in range(3))
    first.arrived, second.arrived, third.arrived = 1.0, 2.0, 3.0
    queue(scheduler, first)
    assert scheduler.waiting.oldest_arrival == 1.0
    step(scheduler)
    assert scheduler.waiting.oldest_arrival is None
    queue(scheduler, second, third)
    scheduler.preempt_all()
    assert scheduler.waiting.oldest_arrival == 2.0


def test_completions_share_full_blocks_of_the_prompt() -> None:
    scheduler = make_scheduler()
    first, second, third = queue(scheduler, make_request(70, n=3))
    assert shape(step(scheduler)) == [(1, 0, 64, 0)]
    assert shape(step(scheduler)) == [(1, 64, 6, 1), (2, 64, 6, 1), (3, 64, 6, 1)]
    assert shape(step(scheduler)) == [(1, 70, 1, 1), (2, 70, 1, 1), (3, 70, 1, 1)]
    assert first.block_table[:4] == second.block_table[:4] == third.block_table[:4]
    assert len({first.block_table[4], second.block_table[4], third.block_table[4]}) == 3
    assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 64)
    scheduler.remove(first)
    scheduler.check_integrity()
    scheduler.remove(third)
    scheduler.remove(second)
    assert scheduler.pool.num_free == 100


def test_the_last_prompt_token_is_never_shared() -> None:
    scheduler = make_scheduler()
    queue(scheduler, make_request(32, n=2))
    step(scheduler)
    assert shape(step(scheduler)) == [(1, 32, 1, 1), (2, 16, 16, 1)]


def test_prompt_logprobs_are_limited_by_rows_of_logits() -> None:
    scheduler = make_scheduler(max_logit_rows=10)
    (sequence,) = queue(scheduler, make_request(25, echo_logprobs=True))
    assert sequence.prompt_logprobs == [None]
    for expected in ([(1, 0, 10, 10)], [(1, 10, 10, 10)]):
        assert shape(step(scheduler)) == expected
        sequence.prompt_logprobs += [None] * 10
    scheduler.preempt_all()
    assert shape(step(scheduler)) == [(1, 16, 9, 5)]


def test_removing_a_waiting_sequence() -> None:
    scheduler = make_scheduler(max_sequences=1)
    first, second = queue(scheduler, make_request(5), make_request(5))
    step(scheduler)
    scheduler.remove(second)
    assert not scheduler.waiting
    scheduler.remove(first)
    assert scheduler.schedule().chunks == []
    scheduler.check_integrity()


def test_a_prompt_is_found_again_by_those_of_its_salt() -> None:
    scheduler = make_scheduler()
    (first,) = queue(scheduler, make_request(50, salt="a"))
    step(scheduler)
    scheduler.remove(first)
    assert scheduler.pool.num_cached == 3
    queue(scheduler, make_request(60, salt="a"), make_request(60, salt="b"))
    assert shape(step(scheduler)) == [(2, 48, 12, 1), (3, 0, 52, 0)]
    assert (scheduler.num_cached_tokens, scheduler.num_looked_up_tokens) == (48, 170)


def test_blocks_that_are_being_computed_are_waited_for() -> None:
    scheduler = make_scheduler()
    queue(scheduler, *(make_request(90, salt=salt) for salt in "aab"))
    assert shape(step(scheduler)) == [(1, 0, 64, 0)]
    assert shape(step(scheduler)) == [(1, 64, 26, 1), (3, 0, 38, 0)]
    assert shape(step(scheduler)) == [(1, 90, 1, 1), (2, 80, 10, 1), (3, 38, 52, 1)]


def test_blocks_of_a_failed_sequence_are_not_found() -> None:
    scheduler = make_scheduler()
    (first,) = queue(scheduler, make_request(50, salt="a"))
    step(scheduler)
    scheduler.remove(first, keep=False)
    assert scheduler.pool.num_cached == 0
    queue(scheduler, make_request(60, salt="a"))
    assert shape(step(scheduler)) == [(2, 0, 60, 1)]


def test_urgent_requests_overtake_and_displace() -> None:
    scheduler = make_scheduler(max_sequences=2)
    first, second, third, urgent = queue(
        scheduler,
        make_request(20),
        make_request(20, priority=1),
        make_request(20, priority=1),
        make_request(20, priority=-1),
    )
    assert shape(step(scheduler)) == [(1, 0, 20, 1), (4, 0, 20, 1)]
    (more,) = queue(scheduler, make_request(5, priority=-1))
    assert shape(step(scheduler)) == [(4, 20, 1, 1), (5, 0, 5, 1)]
    assert scheduler.running == [urgent, more]
    assert list(scheduler.waiting) == [first, second, third]
    assert len(first.token_ids) == 21
    scheduler.remove(more)
    assert shape(step(scheduler)) == [(1, 16, 5, 1), (4, 21, 1, 1)]


def test_nothing_is_displaced_in_vain() -> None:
    scheduler = make_scheduler(num_blocks=10)
    keeper, _ = queue(scheduler, make_request(60), make_request(30, priority=1))
    step(scheduler)
    step(scheduler)
    queue(scheduler, make_request(130))
    step(scheduler)
    assert scheduler.num_preemptions == 0
    scheduler.remove(keeper)
    step(scheduler)
    assert scheduler.num_preemptions == 1


def test_tenants_get_equal_shares_of_the_places() -> None:
    scheduler = make_scheduler(max_sequences=4)
    many = queue(scheduler, *(make_request(4, tenant="a") for _ in range(9)))
    step(scheduler)
    step(scheduler)
    few = queue(scheduler, *(make_request(4, tenant="b") for _ in range(2)))
    for _ in range(3):
        step(scheduler)
    assert set(scheduler.running) == {*many[:2], *few}
    assert scheduler.num_preemptions == 2
    for _ in range(20):
        step(scheduler)
    assert scheduler.num_preemptions == 2
    for sequence in few:
        scheduler.remove(sequence)
    step(scheduler)
    assert set(scheduler.running) == set(many[:4])


def test_with_more_tenants_than_places_nobody_keeps_two() -> None:
    scheduler = make_scheduler(max_sequences=2)
    queue(scheduler, *(make_request(4, tenant="many") for _ in range(4)))
    step(scheduler)
    queue(scheduler, *(make_request(4, tenant=name) for name in "abc"))
    for _ in range(3):
        step(scheduler)
    tenants = [running.request.options.tenant for running in scheduler.running]
    assert sorted(tenants) == ["a", "many"]


def test_turns_go_to_the_tenant_served_least() -> None:
    scheduler = make_scheduler(max_sequences=1)
    queue(scheduler, *(make_request(40, tenant="a") for _ in range(3)))
    queue(scheduler, *(make_request(4, tenant="b") for _ in range(3)))
    order = []
    while scheduler.running or scheduler.waiting:
        step(scheduler)
        (running,) = scheduler.running
        order.append(running.request.options.tenant)
        scheduler.remove(running)
    assert order == ["a", "b", "b", "b", "a", "a"]


def test_a_long_prompt_and_short_ones_do_not_hold_each_other_up() -> None:
    scheduler = make_scheduler(max_step_tokens=64)
    queue(scheduler, make_request(1000))
    step(scheduler)
    queue(scheduler, make_request(100), make_request(20))
    assert shape(step(scheduler)) == [(1, 64, 32, 0), (2, 0, 32, 0)]
    assert shape(step(scheduler)) == [(1, 96, 32, 0), (2, 32, 32, 0)]
    (small,) = queue(scheduler, make_request(10))
    while small.num_generated == 0:
        chunks = step(scheduler)
        assert chunks[-1].sequence.arrival == 1
        assert chunks[-1].count >= 25
    assert scheduler.running[0].num_computed < 400


def test_drafts_take_rows_and_free_blocks_only() -> None:
    scheduler = make_scheduler(num_blocks=4, max_step_tokens=64)
    first, second = queue(scheduler, make_request(12), make_request(14))
    step(scheduler)
    drafts = {first: [1] * 20, second: [1] * 20}
    plan = scheduler.schedule(drafts)
    assert [len(chunk.draft) for chunk in plan.chunks] == [3, 1]
    assert plan.num_decode_rows == 6
    scheduler.check_integrity()


def test_prompts_are_read_as_the_time_of_steps_allows() -> None:
    pacer = StepPacer(0.1)
    pacer.note(1, 0.0, 0.04)
    pacer.note(0, 40.0, 0.08)
    scheduler = make_scheduler(pacer=pacer, max_step_tokens=500)
    queue(scheduler, make_request(10))
    step(scheduler)
    queue(scheduler, make_request(1000))
    for _ in range(2):
        (_, chunk) = step(scheduler)
        assert 27 <= chunk.count <= 30


def crowd_beside_a_stream(scheduler: Scheduler, *prompts: Request) -> float:
    queue(scheduler, make_request(3, tenant="a"))
    step(scheduler)
    queue(scheduler, *prompts)
    return scheduler.schedule().crowd


def test_prompts_that_could_begin_are_a_crowd_to_streams() -> None:
    prompts = [make_request(20, tenant="a") for _ in range(5)]
    assert crowd_beside_a_stream(make_scheduler(), *prompts) == 5
    assert make_scheduler().schedule().crowd == 0


def test_prompts_without_place_or_blocks_are_no_crowd() -> None:
    prompts = [make_request(20, tenant="a") for _ in range(5)]
    assert crowd_beside_a_stream(make_scheduler(max_sequences=3), *prompts) == 2
    prompts = [make_request(20, tenant="a") for _ in range(5)]
    assert crowd_beside_a_stream(make_scheduler(num_blocks=6), *prompts) == 1


def test_prompts_are_no_crowd_to_others_or_to_more_urgent_streams() -> None:
    prompts = [make_request(20, tenant="b") for _ in range(5)]
    assert crowd_beside_a_stream(make_scheduler(), *prompts) == 0
    prompts = [make_request(20, tenant="a", priority=1) for _ in range(5)]
    assert crowd_beside_a_stream(make_scheduler(), *prompts) == 0
    prompts = [make_request(20, tenant="a"), make_request(20, tenant="a", priority=-1)]
    assert crowd_beside_a_stream(make_scheduler(), *prompts) == 2
