"""Reading GGUF tokenizer metadata: SentencePiece vocabularies, rules, and damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from lepton.errors import ModelFormatError
from lepton.models.tokenizer import Tokenizer
from lepton.models.tokenizer.from_gguf import parts_from_gguf

Metadata = dict[str, Any]


def key(name: str) -> str:
    return f"tokenizer.ggml.{name}"


@pytest.fixture(scope="module")
def sentencepiece_metadata(
    lines: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Metadata, sentencepiece.SentencePieceProcessor]:
    """A Llama 2 style vocabulary trained by SentencePiece itself, and its processor."""
    prefix = tmp_path_factory.mktemp("sentencepiece") / "tiny"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in lines if line.strip()),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=2200,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<tool>"],
        control_symbols=["<|im_end|>"],
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(Path(f"{prefix}.model").read_bytes())
    metadata = {
        key("model"): "llama",
        key("pre"): "default",
        key("tokens"): [piece.piece for piece in model.pieces],
        key("scores"): np.array([piece.score for piece in model.pieces], np.float32),
        key("token_type"): np.array([piece.type for piece in model.pieces], np.int32),
        key("unknown_token_id"): 0,
        key("bos_token_id"): 1,
        key("eos_token_id"): 2,
    }
    return metadata, sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")


def test_llama2_equals_transformers(
    sentencepiece_metadata: tuple[Metadata, Any], lines: list[str]
) -> None:
    metadata, _ = sentencepiece_metadata
    tokens = metadata[key("tokens")]
    scores = metadata[key("scores")]
    kinds = metadata[key("token_type")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    ranked = sorted(
        (-scores[index], -len(left), left, token[len(left) :])
        for index, token in enumerate(tokens)
        if kinds[index] == 1
        for left in (token[:cut] for cut in range(1, len(token)))
        if left in vocabulary and token[len(left) :] in vocabulary
    )
    oracle = transformers.LlamaTokenizer(
        vocab=vocabulary, merges=[(left, right) for _, _, left, right in ranked]
    )
    oracle.add_tokens(["<tool>"])
    oracle.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    ours = Tokenizer(parts_from_gguf(metadata))
    expected = [[1, *ids] for ids in oracle(lines, add_special_tokens=False)["input_ids"]]
    assert [ours.encode(line) for line in lines] == expected
    ascii_lines = [line for line in lines if line.isascii()]
    assert [ours.decode(ours.encode(line)) for line in ascii_lines] == oracle.batch_decode(
        [oracle.encode(line) for line in ascii_lines],
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def test_llama2_equals_sentencepiece(
    sentencepiece_metadata: tuple[Metadata, Any], lines: list[str]
) -> None:
    """SentencePiece itself agrees, except that it doubles a space at the start of a text."""
    metadata, oracle = sentencepiece_metadata
    ours = Tokenizer(parts_from_gguf(metadata))
    comparable = [line for line in lines if line and not line.startswith((" ", "\u2581"))]
    assert len(comparable) > 1500
    ids = [ours.encode(line, add_special_tokens=False) for line in comparable]
    assert ids == oracle.encode(comparable)
    assert [ours.decode(line) for line in ids] == comparable


def test_sentencepiece_rules(sentencepiece_metadata: tuple[Metadata, Any]) -> None:
    metadata, _ = sentencepiece_metadata
    tokenizer = Tokenizer(parts_from_gguf(metadata))
    end = metadata[key("tokens")].index("<|im_end|>")
    tool = metadata[key("tokens")].index("<tool>")
    assert tokenizer.add_bos
    assert tokenizer.eos_token_ids == {2, end}
    assert tool in tokenizer.encode("call <tool> now")
    assert tool not in tokenizer.special_token_ids
    assert tokenizer.decode(tokenizer.encode("a<|im_end|>")) == "a"
    assert tokenizer.decode(tokenizer.encode("Hello")) == "Hello"
    continuing = tokenizer.detokenizer(continuation=True)
    assert "".join(map(continuing.add, tokenizer.encode("Hello"))) == " Hello"


def test_literal_byte_pieces_are_not_bytes(sentencepiece_metadata: tuple[Metadata, Any]) -> None:
    metadata, _ = sentencepiece_metadata
    tokenizer = Tokenizer(parts_from_gguf(metadata))
    assert tokenizer.decode(tokenizer.encode("write <0x0A> here")) == "write <0x0A> here"


def test_no_space_prefix(sentencepiece_metadata: tuple[Metadata, Any]) -> None:
    metadata, _ = sentencepiece_metadata
    tokenizer = Tokenizer(parts_from_gguf(metadata | {key("add_space_prefix"): False}))
    assert tokenizer.decode(tokenizer.encode(" x")) == " x"
    assert tokenizer.token_text(tokenizer.encode("Hello", add_special_tokens=False)[0])[0] == "H"


@pytest.mark.parametrize("flag", ["add_bos_token", "add_eos_token"])
@pytest.mark.parametrize("value", [True, False])
def test_flags_are_obeyed(
    flag: str, value: bool, byte_level_metadata: Callable[[str], Metadata]
) -> None:
    for family in ("gpt-2", "llama-bpe"):
        metadata = byte_level_metadata(family) | {key(flag): value}
        ids = Tokenizer(parts_from_gguf(metadata)).encode("a")
        assert (ids[0] == 0 if flag == "add_bos_token" else ids[-1] == 1) == value


def test_end_tokens_are_gathered(byte_level_metadata: Callable[[str], Metadata]) -> None:
    metadata = byte_level_metadata("gpt-2") | {key("eot_token_id"): 2, key("eom_token_id"): 0}
    assert parts_from_gguf(metadata).eos_token_ids == {0, 1, 2, 3}


def test_user_defined_tokens_match_whole_and_show(
    byte_level_metadata: Callable[[str], Metadata],
) -> None:
    metadata = byte_level_metadata("gpt-2")
    tokens = [*metadata[key("tokens")], "<think it>"]
    kinds = [*metadata[key("token_type")], 4]
    tokenizer = Tokenizer(
        parts_from_gguf(metadata | {key("tokens"): tokens, key("token_type"): kinds})
    )
    ids = tokenizer.encode("so <think it>ok")
    assert len(tokens) - 1 in ids
    assert tokenizer.decode(ids) == "so <think it>ok"


DAMAGE = {
    "tokens": [None, "x", 7, ["a", 1], [], ["a", "b"]],
    "merges": [None, "x", ["a"], ["a b c"], [" b"], ["a "], ["zz yy"], [3]],
    "token_type": ["x", [1, 2], np.zeros((2, 2)), [None]],
    "model": [None, "bert", 3],
    "pre": ["tekken", 3, ""],
    "bos_token_id": [-1, 10**6, 2**70, "1", True, 1.5],
    "eos_token_id": [-1, 10**6],
    "eot_token_id": [10**6],
    "unknown_token_id": [10**6],
    "padding_token_id": [10**6],
    "add_bos_token": [1, "true"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in DAMAGE.items() for value in values]
)
def test_damage_is_named(
    name: str, value: Any, byte_level_metadata: Callable[[str], Metadata]
) -> None:
    metadata = byte_level_metadata("gpt-2") | {key(name): value}
    if value is None:
        del metadata[key(name)]
    with pytest.raises(ModelFormatError, match=r"model\.gguf.*tokenizer\.ggml\.") as caught:
        parts_from_gguf(metadata, file="model.gguf")
    assert name in str(caught.value) or name == "tokens"


@pytest.mark.parametrize("value", [None, [0.0], "x", [float("nan")] * 2200])
def test_scores_are_needed(value: Any, sentencepiece_metadata: tuple[Metadata, Any]) -> None:
    metadata = sentencepiece_metadata[0] | {key("scores"): value}
    with pytest.raises(ModelFormatError, match=r"tokenizer\.ggml\.scores"):
        parts_from_gguf(metadata)


def test_an_unknown_pre_tokenizer_lists_the_known(
    byte_level_metadata: Callable[[str], Metadata],
) -> None:
    with pytest.raises(ModelFormatError, match=r"tokenizer\.ggml\.pre.*'tekken'.*llama-bpe"):
        parts_from_gguf(byte_level_metadata("gpt-2") | {key("pre"): "tekken"})


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**40),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.text(max_size=5), st.integers(), st.floats()), max_size=6),
)
KEYS = ["model", "pre", "tokens", "scores", "token_type", "merges", "bos_token_id", "eos_token_id",
        "eot_token_id", "add_bos_token", "add_space_prefix", "unknown_token_id"]  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.dictionaries(st.sampled_from(KEYS), JUNK), model=st.sampled_from(["gpt2", "llama"]))
def test_junk_raises_nothing_else(junk: dict[str, Any], model: str) -> None:
    small = {
        "model": model,
        "tokens": ["<s>", "a", "b", "ab"],
        "scores": [0.0, -1.0, -2.0, -3.0],
        "token_type": [3, 1, 1, 1],
        "merges": ["a b"],
    }
    metadata = {key(name): value for name, value in (small | junk).items()}
    try:
        tokenizer = Tokenizer(parts_from_gguf(metadata))
    except ModelFormatError:
        return
    tokenizer.decode(tokenizer.encode("ab 好"))
