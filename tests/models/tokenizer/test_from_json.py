"""Reading the tokenizer of a Hugging Face model folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, processors

from lepton.errors import ModelFormatError
from lepton.models.tokenizer import Tokenizer
from lepton.models.tokenizer.from_json import parts_from_folder

EOS = {"__type": "AddedToken", "content": "<|endoftext|>", "special": True}


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def copy_of(library: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(library.to_str())


@pytest.fixture
def folder(tmp_path: Path, trained: Callable[[str], tokenizers.Tokenizer]) -> Path:
    """A Llama 3 style folder: BOS comes from the template inside tokenizer.json."""
    library = copy_of(trained("llama-bpe"))
    library.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", 0)]
    )
    library.enable_truncation(4)
    library.enable_padding(length=10)
    library.save(str(tmp_path / "tokenizer.json"))
    return write(
        tmp_path,
        tokenizer_config={"bos_token": "<|begin|>", "eos_token": EOS},
        generation_config={"eos_token_id": [1, 2]},
    )


def test_folder_equals_transformers(folder: Path, lines: list[str]) -> None:
    oracle = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    oracle.backend_tokenizer.no_truncation()
    oracle.backend_tokenizer.no_padding()
    ours = Tokenizer(parts_from_folder(folder))
    expected = oracle(lines, truncation=False, padding=False)["input_ids"]
    assert [ours.encode(line) for line in lines] == expected
    assert [ours.decode(ids) for ids in expected] == oracle.batch_decode(
        expected, skip_special_tokens=True
    )


def test_rules_of_a_folder(folder: Path) -> None:
    tokenizer = Tokenizer(parts_from_folder(folder))
    assert (tokenizer.bos_token_id, tokenizer.add_bos, tokenizer.add_eos) == (0, True, False)
    assert tokenizer.eos_token_ids == {1, 2, 3}
    assert tokenizer.special_token_ids == {0, 1, 2, 3}
    assert tokenizer.named_tokens == {"bos_token": "<|begin|>", "eos_token": "<|endoftext|>"}
    assert len(tokenizer.encode("a " * 50)) > 50
    assert tokenizer.vocab_size == 2000


def test_configuration_overrules_the_template(folder: Path) -> None:
    write(
        folder,
        tokenizer_config={
            "bos_token": "<|begin|>",
            "eos_token": "<|endoftext|>",
            "add_bos_token": False,
            "add_eos_token": True,
        },
    )
    ids = Tokenizer(parts_from_folder(folder)).encode("a")
    assert ids[0] != 0
    assert ids[-1] == 1


def test_special_tokens_map_names_what_the_configuration_leaves_out(folder: Path) -> None:
    write(folder, tokenizer_config={}, special_tokens_map={"eos_token": "<|im_end|>"})
    parts = parts_from_folder(folder)
    assert parts.eos_token_id == 3
    assert parts.bos_token_id == 0


def sentencepiece_library() -> tokenizers.Tokenizer:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a"]
    library = tokenizers.Tokenizer(
        models.BPE(
            {piece: index for index, piece in enumerate(pieces)},
            [],
            byte_fallback=True,
            fuse_unk=True,
            unk_token="<unk>",
        )
    )
    library.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    library.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    library.add_special_tokens(["<s>", "</s>"])
    return library


@pytest.mark.parametrize("decoder", ["sequence", "metaspace"])
def test_sentencepiece_folder(tmp_path: Path, decoder: str) -> None:
    library = sentencepiece_library()
    if decoder == "metaspace":
        library.decoder = decoders.Metaspace()
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(parts_from_folder(tmp_path))
    for text in ("a a", " a", "好 a", ""):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        if decoder == "sequence":
            assert tokenizer.decode(ids) == library.decode(ids)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("tokenizer", "{", "JSON"),
        ("tokenizer", "[]", "object"),
        ("tokenizer", '{"version": "1.0"}', "not a usable tokenizer"),
        ("tokenizer", "[" * 100_000, "JSON"),
        ("tokenizer_config", "\ufeff{", "JSON"),
        ("generation_config", '{"eos_token_id": [2000]}', "eos_token_id"),
        ("generation_config", '{"eos_token_id": "1"}', "eos_token_id"),
        ("config", '{"eos_token_id": true}', "eos_token_id"),
    ],
)
def test_damage_is_named(folder: Path, name: str, content: str, problem: str) -> None:
    (folder / f"{name}.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelFormatError, match=problem) as caught:
        parts_from_folder(folder)
    assert caught.value.file == str(folder / f"{name}.json")


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="no such file"):
        parts_from_folder(tmp_path)


def test_unsupported_decoder(folder: Path, trained: Callable[[str], tokenizers.Tokenizer]) -> None:
    library = copy_of(trained("gpt-2"))
    library.decoder = decoders.WordPiece()
    library.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelFormatError, match="WordPiece"):
        parts_from_folder(folder)
