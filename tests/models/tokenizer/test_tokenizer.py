"""Parity of the real models' tokenizers with the libraries they were published for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import sentencepiece
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from tokenizers import pre_tokenizers
from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

from lepton.errors import RequestError
from lepton.models.tokenizer import Tokenizer
from lepton.models.weights import Checkpoint

SPACE_RUN_OF_SENTENCEPIECE = " " * 32


def test_lines_are_many_and_various(lines: list[str]) -> None:
    assert len(set(lines)) >= 2000
    assert sum(max(line, default="") >= "\u4e00" for line in lines) >= 500


def test_smollm2_equals_transformers(
    smollm2: Tokenizer, smollm2_path: Path, lines: list[str]
) -> None:
    oracle = transformers.AutoTokenizer.from_pretrained(
        smollm2_path.parent, gguf_file=smollm2_path.name
    )
    # transformers knows no "smollm" rule for GGUF files; this is the published tokenizer.json's.
    oracle.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    expected = oracle(lines)["input_ids"]
    assert [smollm2.encode(line) for line in lines] == expected
    assert [smollm2.decode(ids) for ids in expected] == oracle.batch_decode(
        expected, skip_special_tokens=True
    )


def test_gemma3_equals_transformers(gemma3: Tokenizer, gemma3_path: Path, lines: list[str]) -> None:
    architecture, description, rules = get_gguf_tokenizer(str(gemma3_path))
    oracle, _ = convert_gguf_tokenizer(architecture, description)
    expected = [encoding.ids for encoding in oracle.encode_batch(lines)]
    assert [gemma3.encode(line, add_special_tokens=False) for line in lines] == expected
    assert [gemma3.decode(ids) for ids in expected] == oracle.decode_batch(expected)
    assert rules["add_bos_token"] == gemma3.add_bos


def test_gemma3_equals_sentencepiece(
    gemma3: Tokenizer, gemma3_checkpoint: Checkpoint, lines: list[str]
) -> None:
    """The reference implementation agrees wherever no run of spaces exceeds its longest piece."""
    metadata = gemma3_checkpoint.metadata
    model = sentencepiece_model_pb2.ModelProto()
    for token, score, kind in zip(
        metadata["tokenizer.ggml.tokens"],
        metadata["tokenizer.ggml.scores"],
        metadata["tokenizer.ggml.token_type"],
        strict=True,
    ):
        is_spaces = token and not token.strip(" ")
        piece = "\u2581" * len(token) if is_spaces else token
        model.pieces.add(piece=piece, score=float(score), type=int(kind))
    model.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.pad_id, model.trainer_spec.eos_id = 0, 1
    model.trainer_spec.bos_id, model.trainer_spec.unk_id = 2, 3
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    oracle = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    comparable = [line for line in lines if SPACE_RUN_OF_SENTENCEPIECE not in line]
    assert len(comparable) > 2000
    ours = [gemma3.encode(line, add_special_tokens=False) for line in comparable]
    assert ours == oracle.encode(comparable)


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_text_survives_the_round_trip(
    name: str, request: pytest.FixtureRequest, lines: list[str]
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    assert [tokenizer.decode(tokenizer.encode(line)) for line in lines] == lines


def test_smollm2_special_tokens(smollm2: Tokenizer) -> None:
    assert smollm2.vocab_size == 49152
    assert (smollm2.bos_token_id, smollm2.add_bos, smollm2.add_eos) == (1, False, False)
    assert smollm2.eos_token_ids == {0, 2}
    assert smollm2.special_token_ids == set(range(17))
    ids = smollm2.encode("<|im_start|>user\n7<|im_end|>")
    assert (ids[0], ids[-1]) == (1, 2)
    assert smollm2.decode(ids) == "user\n7"
    assert smollm2.decode(ids, skip_special_tokens=False) == "<|im_start|>user\n7<|im_end|>"
    assert smollm2.named_tokens["eos_token"] == "<|im_end|>"


def test_gemma3_special_tokens(gemma3: Tokenizer) -> None:
    assert gemma3.vocab_size == 262144
    assert (gemma3.bos_token_id, gemma3.add_bos, gemma3.add_eos) == (2, True, False)
    assert gemma3.eos_token_ids == {1, 106}
    assert gemma3.encode("") == [2]
    assert gemma3.encode("", add_special_tokens=False) == []
    assert gemma3.token_text(106) == "<end_of_turn>"
    assert gemma3.decode(gemma3.encode("<start_of_turn>user\n\n<b>")) == "user\n\n<b>"


def test_tokens_have_bytes(smollm2: Tokenizer, gemma3: Tokenizer) -> None:
    for tokenizer in (smollm2, gemma3):
        ids = tokenizer.encode("龘 is rare", add_special_tokens=False)
        assert b"".join(map(tokenizer.token_bytes, ids)) == "龘 is rare".encode()
    assert gemma3.token_bytes(238 + 0xE4) == b"\xe4"
    assert gemma3.token_text(238 + 0xE4) == "\ufffd"


@pytest.mark.parametrize("token_id", [-1, 49152, 10**12])
def test_ids_without_a_token_are_nothing(smollm2: Tokenizer, token_id: int) -> None:
    assert smollm2.token_bytes(token_id) == b""
    assert smollm2.decode([token_id]) == ""


@pytest.mark.parametrize("text", ["\ud800", "好\udfff", "a\ud83d b"])
def test_lone_surrogates_are_refused(smollm2: Tokenizer, gemma3: Tokenizer, text: str) -> None:
    for tokenizer in (smollm2, gemma3):
        with pytest.raises(RequestError, match=r"lone surrogate U\+D") as caught:
            tokenizer.encode(text)
        assert caught.value.code == "invalid_unicode"


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_survives_byte_fallback(gemma3: Tokenizer, text: str) -> None:
    assert gemma3.decode(gemma3.encode(text), skip_special_tokens=False) == "<bos>" + text


# SmolLM2's vocabulary lacks some control characters and the first byte of planes 4 and up.
SMOLLM2_CHARACTERS = st.characters(
    max_codepoint=0x3FFFF, exclude_categories=["Cs", "Cc"], include_characters="\n\t\r"
)


@settings(deadline=None)
@given(text=st.text(SMOLLM2_CHARACTERS, max_size=60))
def test_any_text_survives_byte_level(smollm2: Tokenizer, text: str) -> None:
    assert smollm2.decode(smollm2.encode(text), skip_special_tokens=False) == text


def test_long_whitespace_is_no_trap(smollm2: Tokenizer) -> None:
    text = "x" + " " * 200_000 + "\n" * 50_000 + "y"
    assert smollm2.decode(smollm2.encode(text)) == text


def test_other_threads_run_while_a_long_text_is_encoded(
    smollm2: Tokenizer, lines: list[str]
) -> None:
    text = ("\n".join(lines) * 10)[:300_000]
    times: list[float] = []
    encoding = threading.Thread(target=lambda: times.append(len(smollm2.encode(text))))
    last = start = time.perf_counter()
    longest = 0.0
    encoding.start()
    while encoding.is_alive():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    assert times[0] > 10_000
    assert longest < (last - start) / 2


def test_a_text_that_is_far_too_long_is_told_by_its_beginning(
    smollm2: Tokenizer, lines: list[str]
) -> None:
    text = "\n".join(lines)
    count = len(smollm2.encode(text))
    assert smollm2.exceeds(text, count // 20)
    assert not smollm2.exceeds(text, count)
    assert not smollm2.exceeds("short", 1)
    assert not smollm2.exceeds(" " * 100_000, 1000)
