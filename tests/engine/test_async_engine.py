from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lepton.engine.async_engine import AsyncEngine, RequestStream
from lepton.engine.outputs import OutputDelta
from lepton.engine.request_options import RequestOptions
from lepton.engine.sampling_params import SamplingParams
from lepton.errors import CapacityError, RequestError, UnavailableError

PARAMS = SamplingParams(seed=4, max_tokens=25, ignore_eos=True, stop=("abc",))
ENDLESS = SamplingParams(seed=4, max_tokens=3000, ignore_eos=True)


class Gate:
    """Lets the executor compute only while it is open."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.opened = threading.Event()
        self.reached = threading.Event()
        forward = engine._core.executor.forward

        def gated(batch: Any) -> Any:
            self.reached.set()
            assert self.opened.wait(60)
            return forward(batch)

        engine._core.executor.forward = gated  # type: ignore[method-assign]


@pytest.fixture
async def engine(toy: Any) -> AsyncIterator[AsyncEngine]:
    made = AsyncEngine(
        toy.make_model(4096), toy.make_config(num_blocks=512, max_sequences=4, max_queue=6)
    )
    made.start()
    yield made
    await asyncio.to_thread(made.shutdown)


async def read(stream: RequestStream) -> list[OutputDelta]:
    return [delta async for delta in stream]


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def text(deltas: list[OutputDelta], index: int = 0) -> str:
    return "".join(delta.text for delta in deltas if delta.index == index)


async def test_concurrent_requests_equal_solo_runs(engine: AsyncEngine, toy: Any) -> None:
    prompts = [[5 + index] * (1 + 7 * index) for index in range(6)]
    results = await asyncio.gather(*(read(engine.generate(each, PARAMS)) for each in prompts))
    for prompt, deltas in zip(prompts, results, strict=True):
        expected = toy.run_one(prompt, PARAMS)
        assert text(deltas) == expected.outputs[0].text
        assert sum((delta.token_ids for delta in deltas), ()) == expected.outputs[0].token_ids
        assert [delta.usage for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
        assert deltas[-1].usage == expected.usage
        assert deltas[-1].finish_reason == expected.outputs[0].finish_reason


async def test_several_completions_and_prompt_logprobs(engine: AsyncEngine, toy: Any) -> None:
    params = SamplingParams(seed=4, max_tokens=25, n=3, logprobs=1)
    deltas = await read(engine.generate([5] * 40, params, echo_logprobs=True))
    assert deltas[0].prompt_logprobs is not None
    assert len(deltas[0].prompt_logprobs) == 40
    expected = toy.run_one([5] * 40, params).outputs
    for output in expected:
        assert text(deltas, output.index) == output.text
    assert deltas[-1].usage is not None


async def test_unread_deltas_are_merged(engine: AsyncEngine, toy: Any) -> None:
    stream = engine.generate([5], PARAMS)
    await until(lambda: len(engine._delivery) == 0)
    deltas = await read(stream)
    assert len(deltas) == 1
    assert deltas[0].text == toy.run_one([5], PARAMS).outputs[0].text
    assert deltas[0].usage is not None


async def test_a_blocked_event_loop_gets_one_wake_up(engine: AsyncEngine) -> None:
    loop = asyncio.get_running_loop()
    wake_ups = []
    original = loop.call_soon_threadsafe

    def counting(callback: Any, *arguments: Any, **options: Any) -> Any:
        wake_ups.append(callback)
        return original(callback, *arguments, **options)

    loop.call_soon_threadsafe = counting  # type: ignore[method-assign, assignment]
    try:
        streams = [engine.generate([5], PARAMS) for _ in range(3)]
        done = threading.Event()
        while engine._core.has_work or engine._new:
            done.wait(0.01)  # The event loop stands still meanwhile.
    finally:
        loop.call_soon_threadsafe = original  # type: ignore[method-assign]
    assert len(wake_ups) == 1
    assert len({text(await read(stream)) for stream in streams}) == 1


async def test_refusals_come_at_the_call(engine: AsyncEngine) -> None:
    with pytest.raises(RequestError, match="no tokens"):
        engine.generate([], PARAMS)
    with pytest.raises(RequestError) as caught:
        engine.generate([5] * 5000, PARAMS)
    assert caught.value.code == "context_length_exceeded"
    stream = engine.generate([5], ENDLESS, request_id="mine")
    with pytest.raises(RequestError, match="in use"):
        engine.generate([5], ENDLESS, request_id="mine")
    await stream.aclose()


async def test_a_full_queue_refuses(engine: AsyncEngine) -> None:
    gate = Gate(engine)
    streams = [engine.generate([5], PARAMS)]
    await asyncio.to_thread(gate.reached.wait, 60)
    streams += [engine.generate([5], PARAMS) for _ in range(3 + 6)]  # Three find places.
    with pytest.raises(CapacityError) as caught:
        engine.generate([5], PARAMS)
    assert 1 <= caught.value.retry_after <= 60
    assert engine.stats().waiting == 9
    gate.opened.set()
    assert len({text(await read(stream)) for stream in streams}) == 1
    assert await read(engine.generate([5], PARAMS))


async def test_nobody_waits_in_an_engine_whose_queue_was_emptied(engine: AsyncEngine) -> None:
    gate = Gate(engine)
    streams = [engine.generate([5], ENDLESS) for _ in range(6)]
    await asyncio.to_thread(gate.reached.wait, 60)
    gate.opened.set()
    await until(lambda: engine.stats().waiting == 2)
    await until(lambda: engine.stats().oldest_wait_seconds > 0)
    for stream in streams:
        await stream.aclose()
    await until(lambda: not engine._core.has_work)
    assert engine.stats().oldest_wait_seconds == 0


async def test_each_step_that_gives_tokens_is_dated(engine: AsyncEngine) -> None:
    stream = engine.generate([5], PARAMS)
    await until(lambda: len(engine._delivery) == 0)
    (delta,) = await read(stream)
    assert len(delta.produced) == len(delta.token_ids) > 1, "one each, without speculation"
    assert list(delta.produced) == sorted(delta.produced)


async def test_a_request_queued_while_a_fault_is_told_is_computed(
    engine: AsyncEngine, toy: Any
) -> None:
    fail_all, step = engine._delivery.fail_all, engine._core.step
    loop = asyncio.get_running_loop()
    late: list[RequestStream] = []
    queued = threading.Event()

    def queue_late() -> None:
        late.append(engine.generate([5], PARAMS))
        queued.set()

    def faulty() -> Any:
        engine._core.step = step  # type: ignore[method-assign]
        raise RuntimeError("no request's fault")

    def slow_fail_all(*arguments: Any, **options: Any) -> None:
        engine._delivery.fail_all = fail_all  # type: ignore[method-assign]
        loop.call_soon_threadsafe(queue_late)
        queued.wait(0.5)
        fail_all(*arguments, **options)

    engine._core.step = faulty  # type: ignore[method-assign]
    engine._delivery.fail_all = slow_fail_all  # type: ignore[method-assign]
    assert (await read(engine.generate([6], PARAMS)))[-1].finish_reason == "error"
    await until(queued.is_set)
    deltas = await read(late[0])
    assert text(deltas) == toy.run_one([5], PARAMS).outputs[0].text


async def test_readers_are_told_when_a_step_hangs(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lepton.engine.async_engine._STOP_SECONDS", 0.1)
    gate = Gate(engine)
    stream = engine.generate([5], ENDLESS)
    await asyncio.to_thread(gate.reached.wait, 60)
    await engine.drain(0)
    assert (await read(stream))[-1].finish_reason == "cancelled"
    monkeypatch.setattr("lepton.engine.async_engine._STOP_SECONDS", 3600)
    await asyncio.to_thread(engine.shutdown)  # It has been waited for once already.
    assert engine.alive
    gate.opened.set()
    await until(lambda: not engine.alive)


async def test_a_queue_emptied_by_its_readers_takes_requests_again(engine: AsyncEngine) -> None:
    gate = Gate(engine)
    running = engine.generate([5], ENDLESS)
    await asyncio.to_thread(gate.reached.wait, 60)
    streams = [engine.generate([5], PARAMS) for _ in range(6)]
    for stream in [running, *streams]:
        await stream.aclose()
    gate.opened.set()
    await until(lambda: len(engine._delivery) == 0)
    assert await read(engine.generate([5], PARAMS))


async def test_abort_ends_with_cancelled(engine: AsyncEngine) -> None:
    stream = engine.generate([5], ENDLESS)
    await anext(stream)
    engine.abort(stream.request_id)
    engine.abort("unknown")
    deltas = await read(stream)
    assert deltas[-1].finish_reason == "cancelled"
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens < 3000


@pytest.mark.parametrize("way", ["close", "drop", "cancel", "drop unread"])
async def test_a_reader_that_leaves_ends_its_request(engine: AsyncEngine, way: str) -> None:
    stream: RequestStream | None = engine.generate([5], ENDLESS)
    if way == "cancel":
        task = asyncio.create_task(read(stream))  # type: ignore[arg-type]
        stream = None
        await until(lambda: engine.stats().running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
    elif way == "close":
        await anext(stream)  # type: ignore[arg-type]
        await stream.aclose()  # type: ignore[union-attr]
        assert await read(stream) == []  # type: ignore[arg-type]
    else:
        if way == "drop":
            await anext(stream)  # type: ignore[arg-type]
        stream = None
        gc.collect()
    await until(lambda: not engine._core.has_work and not len(engine._delivery))
    assert engine.stats().used_blocks == 0


async def test_a_failing_step_leaves_the_engine_alive(engine: AsyncEngine, toy: Any) -> None:
    stream = engine.generate([5], ENDLESS)
    await anext(stream)
    engine._core.executor.fail_next = RuntimeError("boom")  # type: ignore[attr-defined]
    deltas = await read(stream)
    assert deltas[-1].finish_reason == "error"
    assert engine.alive
    deltas = await read(engine.generate([5], PARAMS))
    assert text(deltas) == toy.run_one([5], PARAMS).outputs[0].text


async def test_a_fault_of_the_loop_ends_what_runs_and_no_more(
    engine: AsyncEngine, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = engine.generate([5], ENDLESS)
    await anext(stream)
    with monkeypatch.context() as patch:
        patch.setattr(engine._core.scheduler, "schedule", None)
        deltas = await read(stream)
    assert deltas[-1].finish_reason == "error"
    assert "restarted" in str(deltas[-1].error)
    assert engine.alive
    before = engine.stats().generation_tokens_total
    assert (
        text(await read(engine.generate([5], PARAMS))) == toy.run_one([5], PARAMS).outputs[0].text
    )
    stats = engine.stats()
    assert (stats.restarts_total, stats.running, stats.used_blocks) == (1, 0, 0)
    assert stats.generation_tokens_total > before > 0


async def test_a_loop_that_keeps_failing_is_given_up(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("every time")

    monkeypatch.setattr(engine._core, "step", fail)
    for _ in range(4):
        deltas = await read(engine.generate([5], PARAMS))
        assert deltas[-1].finish_reason == "error"
    await until(lambda: not engine.alive)
    with pytest.raises(UnavailableError, match="has stopped"):
        engine.generate([5], PARAMS)


async def test_a_request_that_would_wait_too_long_is_refused(toy: Any) -> None:
    config = toy.make_config(max_sequences=1, max_queue=100, max_queue_seconds=3)
    engine = AsyncEngine(toy.make_model(), config)
    engine.start()
    monitored = engine._core.queue_pace
    monitored.wait = lambda ahead: 0.5 * ahead  # type: ignore[method-assign]
    gate = Gate(engine)
    streams = [engine.generate([5], PARAMS)]
    await until(gate.reached.is_set)
    streams += [engine.generate([5], PARAMS) for _ in range(7)]
    with pytest.raises(CapacityError, match=r"7 requests .* about 3\.5 seconds") as caught:
        engine.generate([5], PARAMS)
    assert caught.value.retry_after == 1
    # Another tenant's next request comes after one of theirs, a more urgent one before all.
    for options in (RequestOptions(tenant="other"), RequestOptions(priority=-1)):
        streams.append(engine.generate([5], PARAMS, options=options))
    gate.opened.set()
    for stream in streams:
        assert (await read(stream))[-1].usage is not None
    await asyncio.to_thread(engine.shutdown)


async def test_a_full_queue_has_room_for_tenants_with_less_than_their_share(toy: Any) -> None:
    config = toy.make_config(max_sequences=1, max_queue=6)
    engine = AsyncEngine(toy.make_model(), config)
    engine.start()
    gate = Gate(engine)

    def ask(tenant: str) -> RequestStream:
        return engine.generate([5], PARAMS, options=RequestOptions(tenant=tenant))

    streams = [ask("greedy")]
    await until(gate.reached.is_set)
    streams += [ask("greedy") for _ in range(6)]
    with pytest.raises(CapacityError, match="are waiting already"):
        engine.check_room("greedy", -5)
    for tenant, room in (("greedy", 0), ("modest", 3), ("late", 2), ("greedy", 0)):
        streams += [ask(tenant) for _ in range(room)]
        with pytest.raises(CapacityError, match="are waiting already") as caught:
            ask(tenant)
        assert caught.value.retry_after == 1
    gate.opened.set()
    for stream in streams:
        assert (await read(stream))[-1].usage is not None
    engine.check_room("greedy")
    await asyncio.to_thread(engine.shutdown)


async def test_an_idle_engine_takes_a_burst(toy: Any) -> None:
    config = toy.make_config(num_blocks=512, max_sequences=8, max_queue_seconds=0.05)
    engine = AsyncEngine(toy.make_model(), config)
    engine.start()
    for _ in range(2):
        await asyncio.sleep(0.3)
        assert (await read(engine.generate([5], PARAMS)))[-1].usage is not None
    assert engine.stats().estimated_wait_seconds == 0
    gate = Gate(engine)
    streams = [engine.generate([5 + index], PARAMS) for index in range(8)]
    gate.opened.set()
    for stream in streams:
        assert (await read(stream))[-1].usage is not None
    await asyncio.to_thread(engine.shutdown)


async def test_a_dead_loop_is_seen(engine: AsyncEngine) -> None:
    stream = engine.generate([5], ENDLESS)
    await anext(stream)

    def die() -> None:
        raise SystemExit

    engine._core.step = die  # type: ignore[method-assign, assignment]
    deltas = await read(stream)
    assert deltas[-1].finish_reason == "error"
    await until(lambda: not engine.alive)
    with pytest.raises(UnavailableError, match="has stopped"):
        engine.generate([5], PARAMS)


async def test_drain_lets_requests_finish(engine: AsyncEngine, toy: Any) -> None:
    streams = [engine.generate([5 + index], PARAMS) for index in range(6)]
    drained = asyncio.create_task(engine.drain(60))
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError, match="shutting down"):
        engine.generate([5], PARAMS)
    await drained
    for index, stream in enumerate(streams):
        expected = toy.run_one([5 + index], PARAMS).outputs[0]
        assert text(await read(stream)) == expected.text


async def test_drain_cancels_what_outlasts_the_grace(engine: AsyncEngine) -> None:
    streams = [engine.generate([5], ENDLESS) for _ in range(6)]
    await anext(streams[0])
    await engine.drain(0.0)
    assert len(engine._delivery) == 0
    for stream in streams:
        assert (await read(stream))[-1].finish_reason == "cancelled"
    assert engine.alive


async def test_shutdown_cancels_and_releases(toy: Any) -> None:
    engine = AsyncEngine(toy.make_model(4096), toy.make_config(num_blocks=512))
    assert not engine.alive
    with pytest.raises(UnavailableError, match="not been started"):
        engine.generate([5], PARAMS)
    engine.start()
    stream = engine.generate([5], ENDLESS)
    await anext(stream)
    await asyncio.to_thread(engine.shutdown)
    engine.shutdown()
    assert (await read(stream))[-1].finish_reason == "cancelled"
    assert engine._core.executor.closed  # type: ignore[attr-defined]
    assert not engine.alive
    with pytest.raises(UnavailableError, match="shut down"):
        engine.generate([5], PARAMS)


async def test_shutdown_before_start(toy: Any) -> None:
    engine = AsyncEngine(toy.make_model(), toy.make_config())
    engine.shutdown()
    assert engine._core.executor.closed  # type: ignore[attr-defined]


async def test_ticks_when_idle_and_not_while_stuck(engine: AsyncEngine) -> None:
    first = engine._tick
    await until(lambda: engine._tick > first)
    assert engine.seconds_since_tick() >= 0
    gate = Gate(engine)
    stream = engine.generate([5], PARAMS)
    await asyncio.to_thread(gate.reached.wait, 60)
    stuck = engine._tick
    await asyncio.sleep(0.05)
    assert engine._tick == stuck
    assert engine.seconds_since_tick() >= 0.05
    gate.opened.set()
    await read(stream)


def test_a_closed_event_loop_ends_its_requests(toy: Any) -> None:
    engine = AsyncEngine(toy.make_model(4096), toy.make_config(num_blocks=512))
    engine.start()
    streams = []

    async def leave() -> None:
        streams.append(engine.generate([5], ENDLESS))
        await anext(streams[0])

    asyncio.run(leave())

    async def others() -> None:
        await until(lambda: engine.stats().running == 0)
        assert await read(engine.generate([5], PARAMS))

    asyncio.run(others())
    engine.shutdown()


async def test_properties_of_the_model(engine: AsyncEngine) -> None:
    assert engine.model.name == "pieces"
    assert engine.tokenizer is engine.model.tokenizer
    assert engine.context_length == 4096
