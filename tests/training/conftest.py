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


@pytest.fixture(scope="session")
def several(shop: Dataset) -> Dataset:
    """The texts with their label and their language."""
    both = [
        (shop.labels[target], "zh" if index % 2 else "en")
        for index, target in enumerate(shop.targets)
    ]
    return make_dataset(shop.texts, both)


@pytest.fixture(scope="session")
def numbers(shop: Dataset) -> Dataset:
    """The texts with numbers that go by their length."""
    return make_dataset(shop.texts, [len(text) + 0.5 for text in shop.texts])


@pytest.fixture
def make_sentences() -> Callable[..., tuple[list[str], list[str]]]:
    return sentences


@pytest.fixture(scope="session")
def encoder(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of the hub's layout: BERT with two layers, and a vocabulary for the texts."""
    import tokenizers
    import torch
    import transformers
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
    library.train_from_iterator(shop.texts, trainer)
    library.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    library.decoder = tokenizers.decoders.WordPiece()
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=library.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    library.save(str(folder / "tokenizer.json"))
    return str(folder)
