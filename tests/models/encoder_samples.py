"""Small models of random weights in a folder, for tests above the models."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

WORDS = 200


def tokenizer() -> Tokenizer:
    # RoBERTa counts positions without tokens of number 1.
    special = {"[PAD]": 0, "[MASK]": 1, "[CLS]": 2, "[SEP]": 3, "[UNK]": 4}
    words = special | {f"w{n}": n for n in range(5, WORDS)}
    library = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return library


def save_bert(folder: Path, kind: str = "BertModel", **options: object) -> Path:
    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        **options,
    )
    getattr(transformers, kind)(config).eval().save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def save_generator(folder: Path) -> Path:
    """A tiny Llama with the words of the encoders."""
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.2,
    )
    transformers.LlamaForCausalLM(config).eval().save_pretrained(folder)
    library = tokenizer()
    library.decoder = decoders.ByteFallback()
    library.save(str(folder / "tokenizer.json"))
    return folder


def save_reranker(folder: Path) -> transformers.PreTrainedModel:
    """A tiny Qwen3-Reranker, with a word for each word and mark of its conversation."""
    torch.manual_seed(11)
    network = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=WORDS,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=128,
            initializer_range=0.2,
            tie_word_embeddings=False,
        )
    ).eval()
    network.save_pretrained(folder)
    marks = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    words = {"[UNK]": 0, "no": 1, "yes": 2, "Document": 3, "Judge": 4, "user": 5}
    words |= {f"w{n}": n for n in range(6, 190)}
    library = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.add_special_tokens(marks)
    library.save(str(folder / "tokenizer.json"))
    return network
