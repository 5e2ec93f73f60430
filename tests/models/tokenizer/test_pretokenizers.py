"""Each pre-tokenizer against transformers, on a small vocabulary trained with the family's cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
import transformers

from lepton.models.tokenizer import Tokenizer
from lepton.models.tokenizer.from_gguf import parts_from_gguf
from lepton.models.tokenizer.pretokenizers import PRE_TOKENIZATIONS
from lepton.models.weights import open_checkpoint

FAMILIES = ["gpt-2", "smollm", "llama-bpe", "qwen2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_equal_transformers(
    family: str,
    trained: Callable[[str], tokenizers.Tokenizer],
    byte_level_metadata: Callable[[str], dict[str, Any]],
    lines: list[str],
) -> None:
    oracle = transformers.PreTrainedTokenizerFast(tokenizer_object=trained(family))
    ours = Tokenizer(parts_from_gguf(byte_level_metadata(family)))
    expected = oracle(lines)["input_ids"]
    assert [ours.encode(line, add_special_tokens=False) for line in lines] == expected
    assert [ours.decode(ids) for ids in expected] == oracle.batch_decode(
        expected, skip_special_tokens=True
    )


@pytest.mark.parametrize(("family", "digits"), [("gpt-2", 1), ("smollm", 4), ("llama-bpe", 2)])
def test_families_differ(
    family: str, digits: int, byte_level_metadata: Callable[[str], dict[str, Any]]
) -> None:
    """The comparison above would not notice a rule that makes no difference."""
    pre_tokenizer = PRE_TOKENIZATIONS[family].pre_tokenizer()
    assert len(pre_tokenizer.pre_tokenize_str("2024")) == digits


def test_qwen2_equals_its_own_class(
    byte_level_metadata: Callable[[str], dict[str, Any]], lines: list[str]
) -> None:
    metadata = byte_level_metadata("qwen2")
    oracle = transformers.Qwen2TokenizerFast(
        vocab={token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])},
        merges=[tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]],
    )
    ours = Tokenizer(parts_from_gguf(metadata))
    assert [ours.encode(line) for line in lines] == oracle(lines)["input_ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_written_file_reads_back(
    family: str,
    tmp_path: Path,
    trained: Callable[[str], tokenizers.Tokenizer],
    byte_level_metadata: Callable[[str], dict[str, Any]],
) -> None:
    metadata = byte_level_metadata(family)
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(metadata["tokenizer.ggml.model"])
    writer.add_tokenizer_pre(metadata["tokenizer.ggml.pre"])
    writer.add_token_list(metadata["tokenizer.ggml.tokens"])
    writer.add_token_types(metadata["tokenizer.ggml.token_type"])
    writer.add_token_merges(metadata["tokenizer.ggml.merges"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    text = "It's 2024 — 你好, wörld!\n\n  <|im_end|>"
    with open_checkpoint(path) as checkpoint:
        ours = Tokenizer.from_checkpoint(checkpoint)
    assert ours.encode(text, add_special_tokens=False) == trained(family).encode(text).ids
    assert ours.eos_token_ids == {1, 3}
    assert ours.add_bos == (family == "llama-bpe")
    assert ours.encode("a")[:1] == ([0] if ours.add_bos else ours.encode("a")[:1])


def test_default_and_absent_mean_gpt2(
    byte_level_metadata: Callable[[str], dict[str, Any]],
) -> None:
    metadata = byte_level_metadata("gpt-2")
    text = "It's 2024, 你好"
    expected = Tokenizer(parts_from_gguf(metadata)).encode(text)
    named = metadata | {"tokenizer.ggml.pre": "default"}
    absent = {key: value for key, value in metadata.items() if key != "tokenizer.ggml.pre"}
    for variant in (named, absent):
        assert Tokenizer(parts_from_gguf(variant)).encode(text) == expected
