"""A small BERT as GGUF, with its WordPiece vocabulary, against the same in safetensors."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from lepton.engine import LLM
from lepton.models.bert import _GGUF_NAMES

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "pass",
    "##word",
    "reset",
    "the",
    "你",
    "##s",
    "?",
]
TEXTS = ["Reset the PASSWORDS?", "你 pass", "", "unknown words reset"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    transformers.BertModel(config).save_pretrained(folder)
    vocabulary = {token: number for number, token in enumerate(VOCABULARY)}
    library = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    library.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def gguf_file(folder) -> Path:
    """As converters write it: beginnings of words are marked, what continues them is not."""
    path = folder.parent / "bert.gguf"
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_block_count(2)
    writer.add_head_count(2)
    writer.add_context_length(32)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_tokenizer_model("bert")
    tokens = [
        token
        if token.startswith("[")
        else token.removeprefix("##")
        if token.startswith("##")
        else "\u2581" + token
        for token in VOCABULARY
    ]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 2, 3, 3] + [1] * (len(tokens) - 4))
    writer.add_unk_token_id(1)
    writer.add_uint32("tokenizer.ggml.cls_token_id", 2)
    writer.add_sep_token_id(3)
    for name, values in load_file(folder / "model.safetensors").items():
        module, _, kind = name.rpartition(".")
        if module.startswith("encoder.layer."):
            _, _, layer, module = module.split(".", 3)
            writer.add_tensor(f"blk.{layer}.{_GGUF_NAMES[module]}.{kind}", values)
        elif module in _GGUF_NAMES:
            writer.add_tensor(f"{_GGUF_NAMES[module]}.{kind}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_embeds_as_safetensors_do(folder, gguf_file) -> None:
    with LLM(folder, dtype="float32") as llm:
        expected = llm.embed(TEXTS, normalize=True)
        ids = llm.encoder.model.tokenizer.tokens(TEXTS)
    with LLM(gguf_file, dtype="float32") as llm:
        assert llm.encoder.model.tokenizer.tokens(TEXTS) == ids
        assert ids[0] == [6, 7, 4, 5, 9, 10]
        np.testing.assert_allclose(llm.embed(TEXTS), expected, atol=1e-6)
