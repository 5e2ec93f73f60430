from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lepton.errors import ModelNotFoundError, RequestError, UnavailableError
from lepton.server.served_run import ServedRun
from lepton.training import TrainingConfig, make_dataset, train
from lepton.training.scorers import Floats

TEXTS = ["refund please", "money back", "where is my parcel", "the parcel is late"] * 4
OLD = ["refund", "refund", "delivery", "delivery"] * 4
NEW = ["money", "money", "post", "post"] * 4


def train_version(name: Path, labels: list[str]) -> None:
    train(make_dataset(TEXTS, labels), TrainingConfig(method="linear"), out=name)


@pytest.fixture
def name(tmp_path: Path) -> Path:
    train_version(tmp_path / "shop", OLD)
    return tmp_path / "shop"


@pytest.fixture
def served(name: Path) -> Iterator[ServedRun]:
    run = ServedRun(name, poll_seconds=0.02)
    yield run
    run.close()


@pytest.fixture
def quiet(name: Path) -> Iterator[ServedRun]:
    """A run that looks for newer versions only when it is told to."""
    run = ServedRun(name, poll_seconds=3600)
    yield run
    run.close()


async def test_requests_that_arrive_together_get_their_own_answers(served: ServedRun) -> None:
    texts = ["refund", "parcel late", "money back", "where is it"] * 20
    answers = await asyncio.gather(*(served.classify([text, "refund"]) for text in texts))
    labels = [answer.predictions[0].label for answer in answers]
    assert labels == ["refund", "delivery", "refund", "delivery"] * 20
    assert {answer.predictions[1].label for answer in answers} == {"refund"}


async def test_a_newer_version_takes_over_without_a_failure(served: ServedRun, name: Path) -> None:
    seen: list[str] = []

    async def ask() -> None:
        while not seen or seen[-1] != "shop@2":
            answer = await served.classify(["refund please"])
            expected = {"shop@1": "refund", "shop@2": "money"}[answer.model.name]
            assert answer.predictions[0].label == expected
            seen.append(answer.model.name)

    async with asyncio.timeout(60):
        await asyncio.gather(
            asyncio.to_thread(train_version, name, NEW), *(ask() for _ in range(4))
        )
    assert "shop@1" in seen
    old = await served.classify(["refund please"], version=1)
    assert old.predictions[0].label == "refund"
    with pytest.raises(RequestError, match="no version 7"):
        await served.classify(["x"], version=7)


async def test_a_damaged_version_leaves_the_old_one_at_work(
    name: Path, quiet: ServedRun, caplog: pytest.LogCaptureFixture
) -> None:
    broken = name.with_name("shop@2")
    broken.mkdir()
    (broken / "run.json").write_text("{}")
    assert not quiet.refresh()
    assert not quiet.refresh()
    assert [record.getMessage()[:22] for record in caplog.records] == ["shop@2 cannot be used:"]
    assert (await quiet.classify(["refund"])).model.name == "shop@1"
    # It is tried again once it is another one, such as a copy that is whole by now.
    shutil.rmtree(broken)
    shutil.copytree(name.with_name("shop@1"), broken)
    assert quiet.refresh()
    assert quiet.current.name == "shop@2"


def test_a_damaged_version_does_not_hide_a_good_one_below_it(name: Path, quiet: ServedRun) -> None:
    train_version(name, NEW)
    broken = name.with_name("shop@3")
    broken.mkdir()
    (broken / "run.json").write_text("{}")
    assert quiet.refresh()
    assert quiet.current.name == "shop@2"


def test_a_run_that_was_copied_to_a_newer_version_is_loaded_once(
    name: Path, quiet: ServedRun
) -> None:
    shutil.copytree(name.with_name("shop@1"), name.with_name("shop@2"))
    assert quiet.refresh()
    assert quiet.current.name == "shop@2"
    assert not quiet.refresh()


async def test_the_threshold_of_a_request_goes_before_that_of_the_server(name: Path) -> None:
    run = ServedRun(name, threshold=1.0)
    try:
        unsure = (await run.classify(["xyz"])).predictions[0]
        assert unsure.label is None
        assert unsure.probability is not None
        sure = await run.classify(["xyz"], threshold=unsure.probability)
        assert sure.predictions[0].label is not None
        with pytest.raises(RequestError, match="between 0 and 1"):
            await run.classify(["xyz"], threshold=2.0)
    finally:
        run.close()
    with pytest.raises(RequestError, match="between 0 and 1"):
        ServedRun(name, threshold=-1.0)


async def test_a_request_that_is_cancelled_is_not_scored_and_harms_no_other(
    served: ServedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()
    scored: list[str] = []
    score = served.current.scores

    def slow(texts: list[str]) -> Floats:
        scored.extend(texts)
        started.set()
        go_on.wait(30)
        if "fail" in texts:
            raise ValueError("broken")
        return score(texts)

    monkeypatch.setattr(served.current, "scores", slow)
    tasks = [asyncio.create_task(served.classify(["fail"]))]
    await asyncio.to_thread(started.wait, 30)
    tasks.append(asyncio.create_task(served.classify(["waiting"])))
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    go_on.set()
    async with asyncio.timeout(30):
        assert (await served.classify(["refund"])).predictions[0].label == "refund"
    assert scored == ["fail", "refund"]


async def test_a_closed_run_refuses(name: Path) -> None:
    run = ServedRun(name)
    run.close()
    run.close()
    with pytest.raises(UnavailableError):
        await run.classify(["x"])
    with pytest.raises(ModelNotFoundError):
        ServedRun(name.with_name("nothing"))
