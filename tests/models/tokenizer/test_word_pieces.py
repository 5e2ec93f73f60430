"""WordPiece from ``vocab.txt`` against transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from lepton.errors import ModelFormatError
from lepton.models.tokenizer.text_encoder import TextEncoder, library_from_folder
from lepton.training.pretrained import Pretrained

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    "pass",
    "##word",
    "##s",
    "Pass",
    "caf",
    "café",
    "cafe",
    "##é",
    "##e",
    "our",
    "!",
    ",",
    "\u2028",
)
CHINESE = ("如", "何", "修", "##改", "改", "密", "##码", "码", "，", "？", "１")
VOCABULARY = (*SPECIAL, *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh"), *WORDS, *CHINESE)
SETTINGS: tuple[dict[str, object], ...] = (
    {},
    {"do_lower_case": False},
    {"do_lower_case": False, "strip_accents": True},
    {"do_lower_case": True, "strip_accents": False},
    {"tokenize_chinese_chars": False},
)


def write(folder: Path, settings: dict[str, object], lines: tuple[str, ...] = VOCABULARY) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("settings", SETTINGS)
def test_tokens_are_those_of_transformers(settings: dict[str, object], tmp_path: Path) -> None:
    folder = write(tmp_path, settings)
    library = TextEncoder(library_from_folder(folder))
    theirs = transformers.BertTokenizer(vocab=str(folder / "vocab.txt"), **settings)

    @given(
        st.lists(
            st.sampled_from((*VOCABULARY, "Café", "PASSWORDS", "密码", " ", "\n", "\x00", "é"))
            | st.text()
        )
    )
    def check(parts: list[str]) -> None:
        text = "".join(parts)
        ids = theirs(text)["input_ids"]
        assert library.wrap(library.tokens([text])[0]) == ids

    check()
    pair = theirs("password", "密码")
    ours = library.pair(*library.tokens(["password", "密码"]), 99)
    assert (ours.token_ids, ours.kinds) == (pair["input_ids"], pair["token_type_ids"])


def test_special_tokens_have_the_names_that_the_settings_give(tmp_path: Path) -> None:
    named = {"do_lower_case": None, "cls_token": {"content": "[MASK]"}, "unk_token": "!"}
    library = library_from_folder(write(tmp_path, named))
    assert library.encode("pass xyz").tokens == ["[MASK]", "pass", "!", "[SEP]"]


def test_the_map_of_special_tokens_comes_first(tmp_path: Path) -> None:
    folder = write(tmp_path, {"cls_token": "a", "sep_token": "b"})
    (folder / "special_tokens_map.json").write_text('{"cls_token": "[MASK]"}')
    assert library_from_folder(folder).encode("pass").tokens == ["[MASK]", "pass", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapanese"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"99": {"content": "new"}}}, "'new'"),
        ("added_tokens.json", {"newer": 99}, "'newer'"),
    ],
)
def test_what_is_more_than_word_pieces_is_refused(
    name: str, content: object, message: str, tmp_path: Path
) -> None:
    (write(tmp_path, {}) / name).write_text(json.dumps(content))
    with pytest.raises(ModelFormatError, match=rf"{message}.* needs a tokenizer\.json"):
        library_from_folder(tmp_path)


def test_training_reads_the_vocabulary_too(tmp_path: Path) -> None:
    encoder = Pretrained("tiny", write(tmp_path, {}), prompt="", max_tokens=4)
    library = library_from_folder(tmp_path)
    assert encoder.tokens(["passwords a b"]) == [[*library.encode("passwords").ids[:3], 3]]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_may_end_in_either_way(ending: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(ending.join(VOCABULARY).encode())
    library = library_from_folder(tmp_path)
    assert library.token_to_id(VOCABULARY[-1]) == len(VOCABULARY) - 1
    assert library.encode("passwords").tokens == ["[CLS]", "pass", "##word", "##s", "[SEP]"]


def test_what_is_wrong_is_told_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"neither tokenizer\.json nor vocab\.txt"):
        library_from_folder(tmp_path)
    write(tmp_path, {}, ("[PAD]", "[UNK]", "[CLS]", "a"))
    with pytest.raises(ModelFormatError, match=r"sep_token '\[SEP\]' is not in it") as caught:
        library_from_folder(tmp_path)
    assert "vocab.txt" in str(caught.value)
    write(tmp_path, {"do_lower_case": "yes"})
    with pytest.raises(ModelFormatError, match="'do_lower_case' must be true or false"):
        library_from_folder(tmp_path)
    write(tmp_path, {"cls_token": "a b"}, (*VOCABULARY, "a b"))
    with pytest.raises(ModelFormatError, match="not a usable tokenizer"):
        library_from_folder(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelFormatError, match="cannot be read"):
        library_from_folder(tmp_path)
