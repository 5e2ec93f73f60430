"""Small datasets in two languages that a model can learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lepton.training import TrainingConfig, make_dataset, train
from lepton.training.dataset import Dataset

WORDS = {
    "refund": ("refund money back please card charged", "退款 钱 退回 银行卡 扣款 申请"),
    "delivery": ("parcel late courier tracking where shipped", "快递 包裹 物流 迟到 配送 查询"),
    "size": ("size small large fits exchange shoes", "尺码 太小 太大 合身 换货 鞋子"),
}


def sentences(rows: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Made-up texts of some of the words of their label, alternately English and Chinese."""
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for row in range(rows):
        label = list(WORDS)[row % len(WORDS)]
        chinese = row % 2
        chosen = generator.choice(WORDS[label][chinese].split(), 4)
        texts.append(("" if chinese else " ").join(chosen))
        labels.append(label)
    return texts, labels


@pytest.fixture(scope="session")
def shop() -> Dataset:
    return make_dataset(*sentences(90))


@pytest.fixture(scope="session")
def shop_test() -> Dataset:
    return make_dataset(*sentences(60, seed=1))


@pytest.fixture(scope="session")
def linear_run(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of method `linear`."""
    out = tmp_path_factory.mktemp("runs") / "shop"
    return train(shop, TrainingConfig(method="linear"), out=out)


@pytest.fixture
def make_sentences() -> Callable[..., tuple[list[str], list[str]]]:
    return sentences
