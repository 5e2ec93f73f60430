from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from lepton.engine.block_pool import BlockPool
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.scheduler import Scheduler
from lepton.engine.sequence import Request, Sequence
from lepton.engine.step_plan import Chunk
from lepton.models.executors.base import BLOCK_SIZE


def make_request(prompt_tokens: int, n: int = 1, *, echo_logprobs: bool = False) -> Request:
    request = Request(
        request_id="a",
        prompt_token_ids=tuple(range(prompt_tokens)),
        params=SamplingParams(n=n),
        seed=0,
        max_tokens=100,
        stop_token_ids=frozenset(),
        echo_logprobs=echo_logprobs,
    )
    request.sequences = [Sequence(request, index, text=None) for index in range(n)]  # type: ignore[arg-type]
    return request


def make_scheduler(
    num_blocks: int = 100,
    max_sequences: int = 8,
    max_step_tokens: int = 64,
    max_logit_rows: int = 64,
) -> Scheduler:
    return Scheduler(
        BlockPool(num_blocks),
        max_sequences=max_sequences,
        max_step_tokens=max_step_tokens,
        max_logit_rows=max_logit_rows,
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
    return [
        (chunk.sequence.arrival, chunk.start, chunk.count, chunk.num_logits) for chunk in chunks
    ]


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
