"""Real encoders against transformers in float32, on real texts in two languages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import transformers

from lepton.engine import LLM
from lepton.errors import DownloadError
from lepton.models import catalogue
from lepton.models.encoder_loader import load_encoder
from lepton.models.executors.encoder_reference import ReferenceEncoder

WORDS = {
    "en": "order password refund parcel invoice account delivery price return address",
    "zh": "订单 密码 退款 包裹 发票 账户 配送 价格 退货 地址",
}
FRAMES = {
    "en": [
        "How do I change the {} of my {}?",
        "The {} did not arrive, although the {} says so.",
        "Please explain what happens to my {} when the {} is wrong. Nobody answered my letter.",
        "{} / {}",
        "Where can I find the {} for last month's {}, and who may see it?",
    ],
    "zh": [
        "如何修改我的{}和{}？",
        "{}一直没有收到，可是{}显示已经完成。",
        "请说明一下，如果{}有误，我的{}会怎么处理？上周我已经写信给你们，至今没有人回复，页面也打不开。",
        "{}／{}",
        "上个月的{}在哪里可以找到？谁能看到{}？",
    ],
}


def texts() -> list[str]:
    """Five hundred questions to a shop, half of them Chinese."""
    found = []
    for language, frames in FRAMES.items():
        words = WORDS[language].split()
        pairs = [(a, b) for a in words for b in words][:50]
        found += [frame.format(*pair) for frame in frames for pair in pairs]
    return found


def model_path(name: str) -> str:
    try:
        return str(catalogue.pull(name))
    except DownloadError as error:
        pytest.skip(f"{name} cannot be had: {error}")


@pytest.fixture(scope="module")
def expected_minilm() -> Iterator[tuple[str, np.ndarray]]:
    path = model_path("all-minilm-l6-v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    network = transformers.AutoModel.from_pretrained(path).eval()
    vectors = []
    for start in range(0, 500, 50):
        batch = tokenizer(
            texts()[start : start + 50], padding=True, truncation=True, max_length=256,
            return_tensors="pt",
        )  # fmt: skip
        with torch.no_grad():
            states = network(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        mean = (states * mask).sum(1) / mask.sum(1)
        vectors.append(torch.nn.functional.normalize(mean).numpy())
    return path, np.concatenate(vectors)


@pytest.mark.parametrize(
    ("options", "least"),
    [({"dtype": "float32"}, 0.999999), ({}, 0.9999), ({"quantize": "int8"}, 0.99)],
)
def test_minilm_is_that_of_transformers(expected_minilm, options, least) -> None:
    path, expected = expected_minilm
    with LLM(path, **options) as llm:
        vectors = llm.embed(texts())
    assert (vectors * expected).sum(1).min() > least


def test_e5_is_its_dequantized_float32() -> None:
    path = model_path("multilingual-e5-small")
    some = texts()[::10]
    with LLM(path, executor="reference") as llm:
        expected = llm.embed(some)
    for options, least in (
        ({"dtype": "float32"}, 0.999999),
        ({}, 0.999),
        ({"quantize": "int8"}, 0.99),
    ):
        with LLM(path, **options) as llm:
            assert (llm.embed(some) * expected).sum(1).min() > least


def test_e5_knows_translations() -> None:
    path = model_path("multilingual-e5-small")
    with LLM(path) as llm:
        (best,) = llm.rerank("如何修改密码？", ["Opening hours", "Change your password"], top_n=1)
    assert best.index == 1


def test_a_reference_executor_that_is_closed_says_so() -> None:
    with load_encoder(model_path("all-minilm-l6-v2")) as model:
        executor = ReferenceEncoder(model)
        executor.close()
        with pytest.raises(ValueError, match="closed"):
            executor.forward(None, "mean")
