from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from lepton.errors import ModelNotFoundError, RequestError, UnavailableError
from lepton.server.served_run import ServedRun
from lepton.training import TrainingConfig, make_dataset, train

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


async def test_a_damaged_version_leaves_the_old_one_at_work(served: ServedRun, name: Path) -> None:
    broken = name.with_name("shop@2")
    broken.mkdir()
    (broken / "run.json").write_text("{}")
    await asyncio.sleep(0.1)
    assert (await served.classify(["refund"])).model.name == "shop@1"


async def test_a_closed_run_refuses(name: Path) -> None:
    run = ServedRun(name)
    run.close()
    run.close()
    with pytest.raises(UnavailableError):
        await run.classify(["x"])
    with pytest.raises(ModelNotFoundError):
        ServedRun(name.with_name("nothing"))
