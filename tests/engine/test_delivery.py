from __future__ import annotations

import asyncio

import pytest

from lepton.engine.delivery import Delivery
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


async def test_the_last_delta_is_read_last() -> None:
    delivery = Delivery()
    mailbox = delivery.open("a", asyncio.get_running_loop())
    delivery.post([delta(0, 1), delta(1, 2)])
    delivery.post([delta(1, 3), delta(0, 4, USAGE)])
    assert "a" not in delivery
    first, second = await mailbox.get(), await mailbox.get()
    assert (first.index, first.token_ids, first.usage) == (1, (2, 3), None)
    assert (second.index, second.token_ids, second.usage) == (0, (1, 4), USAGE)


async def test_a_waiting_reader_is_woken() -> None:
    delivery = Delivery()
    mailbox = delivery.open("a", asyncio.get_running_loop())
    reader = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    assert await asyncio.to_thread(delivery.post, [delta(0, 1)]) == []
    assert (await reader).token_ids == (1,)


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
    last = await mailbox.get()
    assert (last.finish_reason, last.error) == ("error", "gone")
    assert last.usage is not None
    assert len(delivery) == 0
