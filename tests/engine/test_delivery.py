from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from lepton.engine.delivery import Delivery, Mailbox
from lepton.engine.merging import DeltaMerger, RequestCollector
from lepton.engine.outputs import OutputDelta, TokenLogprob, Usage

USAGE = Usage(1, 4)


def entry(token: int) -> TokenLogprob:
    return TokenLogprob(token_id=token, token="x", bytes=b"x", logprob=-1.0)


def delta(index: int, token: int, usage: Usage | None = None) -> OutputDelta:
    return OutputDelta(
        request_id="a",
        index=index,
        text=f"<{token}>",
        token_ids=(token,),
        logprobs=(entry(token),),
        finish_reason="stop" if usage else None,
        usage=usage,
        prompt_logprobs=(None,) if token == 0 else None,
    )


def test_merging_keeps_everything() -> None:
    merger = DeltaMerger()
    with pytest.raises(ValueError):
        merger.merged()
    merger.add(delta(1, 0))
    merger.add(delta(1, 7))
    merger.add(delta(1, 9, USAGE))
    assert merger.merged() == OutputDelta(
        request_id="a",
        index=1,
        text="<0><7><9>",
        token_ids=(0, 7, 9),
        logprobs=(entry(0), entry(7), entry(9)),
        finish_reason="stop",
        usage=USAGE,
        prompt_logprobs=(None,),
    )


def test_an_unfinished_request_has_no_output() -> None:
    collector = RequestCollector("a", (3,))
    assert not collector.add(delta(0, 5))
    with pytest.raises(ValueError, match="has not finished"):
        collector.output()
    assert collector.add(delta(1, 6, USAGE))
    assert [output.text for output in collector.output().outputs] == ["<5>", "<6>"]


async def read(mailbox: Mailbox) -> list[OutputDelta]:
    async with asyncio.timeout(10):
        await mailbox.filled.wait()
    mailbox.filled.clear()
    return mailbox.take()


async def test_the_last_delta_is_read_last() -> None:
    delivery = Delivery()
    mailbox = delivery.open("a", asyncio.get_running_loop())
    delivery.post([delta(0, 1), delta(1, 2)])
    delivery.post([delta(1, 3), delta(0, 4, USAGE)])
    assert "a" not in delivery
    first, second = await read(mailbox)
    assert (first.index, first.token_ids, first.usage) == (1, (2, 3), None)
    assert (second.index, second.token_ids, second.usage) == (0, (1, 4), USAGE)


async def test_prompt_logprobs_are_read_first_even_with_the_last_delta() -> None:
    delivery = Delivery()
    mailbox = delivery.open("a", asyncio.get_running_loop())
    delivery.post([delta(0, 0), delta(1, 5), delta(0, 6, USAGE)])
    first, last = mailbox.take()
    assert (first.index, first.prompt_logprobs) == (1, (None,))
    assert (last.index, last.prompt_logprobs, last.token_ids) == (0, None, (0, 6))


async def test_a_waiting_reader_is_woken() -> None:
    delivery = Delivery()
    mailbox = delivery.open("a", asyncio.get_running_loop())
    reader = asyncio.create_task(read(mailbox))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(delivery.post, [delta(0, 1)]) == []
    (found,) = await reader
    assert found.token_ids == (1,)


class Crowd:
    """Streams that all gain a token with every step, on a clock of their own."""

    def __init__(self, streams: int, step_seconds: float) -> None:
        self.now = 0.0
        self.step_seconds = step_seconds
        self._delivery = Delivery(lambda: self.now)
        loop = asyncio.get_running_loop()
        self.mailboxes = {
            str(number): self._delivery.open(str(number), loop) for number in range(streams)
        }
        self._tokens = 0

    async def step(self, finishing: str | None = None) -> None:
        self.now += self.step_seconds
        self._tokens += 1
        self._delivery.post(
            replace(delta(0, self._tokens, USAGE if name == finishing else None), request_id=name)
            for name in list(self.mailboxes)
        )
        await asyncio.sleep(0)

    def woken(self) -> dict[str, int]:
        """How many tokens each stream that was woken got."""
        got = {}
        for name, mailbox in self.mailboxes.items():
            if mailbox.filled.is_set():
                mailbox.filled.clear()
                got[name] = sum(len(each.token_ids) for each in mailbox.take())
        return got


@pytest.mark.parametrize(("streams", "tokens"), [(1, 1), (7, 1), (8, 2), (16, 3), (200, 8)])
async def test_the_more_streams_the_more_tokens_come_together(streams: int, tokens: int) -> None:
    crowd = Crowd(streams, step_seconds=0.001)
    await crowd.step()
    assert set(crowd.woken().values()) == {1}, "a first token does not wait"
    chunks = []
    for _ in range(6 * tokens):
        await crowd.step()
        chunks += [set(got.values()) for got in [crowd.woken()] if got]
    assert len(chunks) in (5, 6)
    assert all(chunk == {tokens} for chunk in chunks[1:])


async def test_slow_steps_are_not_collected() -> None:
    crowd = Crowd(16, step_seconds=0.06)
    for _ in range(4):
        await crowd.step()
        assert set(crowd.woken().values()) == {1}


async def test_what_a_long_step_brought_does_not_wait() -> None:
    crowd = Crowd(32, step_seconds=0.001)
    for seconds, delivered in [(0.001, True), (0.001, False), (0.001, False), (0.05, True)]:
        crowd.step_seconds = seconds
        await crowd.step()
        assert bool(crowd.woken()) == delivered


async def test_the_end_of_a_stream_does_not_wait_for_others() -> None:
    crowd = Crowd(16, step_seconds=0.001)
    while not crowd.woken() or crowd.now == 0:
        await crowd.step()
    await crowd.step()
    await crowd.step()
    crowd.woken()
    await crowd.step(finishing="3")
    assert "3" in crowd.woken()


async def test_deltas_of_unknown_requests_are_dropped() -> None:
    delivery = Delivery()
    assert delivery.post([delta(0, 1)]) == []


def test_a_closed_event_loop_loses_its_requests() -> None:
    loop = asyncio.new_event_loop()
    delivery = Delivery()
    delivery.open("a", loop)
    loop.close()
    assert delivery.post([delta(0, 1)]) == ["a"]
    assert len(delivery) == 0


async def test_failing_ends_every_reader() -> None:
    delivery = Delivery()
    mailbox = delivery.open("a", asyncio.get_running_loop())
    delivery.fail_all("gone")
    (last,) = await read(mailbox)
    assert (last.finish_reason, last.error) == ("error", "gone")
    assert last.usage is not None
    assert len(delivery) == 0
