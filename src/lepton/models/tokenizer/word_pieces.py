"""WordPiece, as BERT uses it, and its older file: ``vocab.txt``.

Source: Devlin et al., BERT (arXiv:1810.04805); the settings are those of BertTokenizer in
transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors

from lepton.errors import ModelFormatError
from lepton.models.tokenizer.from_json import named_tokens, read_json_object

VOCABULARY_FILE = "vocab.txt"
_WORD_CHARACTERS = 100
_CLASSES = ("BertTokenizer", "DistilBertTokenizer")
_SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def word_piece_library(
    vocabulary: Mapping[str, int],
    *,
    unknown: str,
    first: tuple[str, int],
    last: tuple[str, int],
    special: Iterable[str],
    normalizer: normalizers.Normalizer,
) -> tokenizers.Tokenizer:
    """A tokenizer that puts ``first`` before a text and ``last`` after each of a pair.

    Both are a text and its id. In ``vocabulary`` what continues a word begins with ``##``.
    """
    library = tokenizers.Tokenizer(
        models.WordPiece(
            dict(vocabulary), unk_token=unknown, max_input_chars_per_word=_WORD_CHARACTERS
        )
    )
    library.normalizer = normalizer
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in special]
    )
    add_template(library, first, last, f"{first[0]}:0 $A:0 {last[0]}:0 $B:1 {last[0]}:1")
    return library


def add_template(
    library: tokenizers.Tokenizer, first: tuple[str, int], last: tuple[str, int], between: str
) -> None:
    """Put ``first`` before a text and ``last`` after it; ``between`` is for pairs."""
    library.post_processor = processors.TemplateProcessing(
        single=f"{first[0]}:0 $A:0 {last[0]}:0",
        pair=between,
        special_tokens=list({first, last}),
    )


def library_from_vocabulary(folder: Path) -> tokenizers.Tokenizer:
    """Build a tokenizer from ``vocab.txt``, a token a line, and the settings beside it.

    Raises ModelFormatError when a file cannot be read, the vocabulary lacks a special token, or the
    settings ask for more than WordPiece: another tokenizer, or tokens beyond the vocabulary.
    """
    file = folder / VOCABULARY_FILE
    try:
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"cannot be read: {error}", file=file) from None
    vocabulary = {text: index for index, text in enumerate(lines)}
    settings = folder / "tokenizer_config.json"
    config = read_json_object(settings)
    kind = config.get("tokenizer_class") or _CLASSES[0]
    if not isinstance(kind, str) or kind.removesuffix("Fast") not in _CLASSES:
        raise ModelFormatError(f"{kind!r} needs a tokenizer.json", file=settings)
    _check_added(folder, config, vocabulary)
    named = _SPECIAL | named_tokens(
        _SPECIAL, read_json_object(folder / "special_tokens_map.json"), config
    )
    for name in ("unk_token", "cls_token", "sep_token"):
        if named[name] not in vocabulary:
            raise ModelFormatError(f"{name} {named[name]!r} is not in it", file=file)
    return word_piece_library(
        vocabulary,
        unknown=named["unk_token"],
        first=(named["cls_token"], vocabulary[named["cls_token"]]),
        last=(named["sep_token"], vocabulary[named["sep_token"]]),
        special=[text for text in named.values() if text in vocabulary],
        normalizer=_normalizer(config, settings),
    )


def _check_added(folder: Path, config: Mapping[str, Any], vocabulary: Mapping[str, int]) -> None:
    """Tokens that are added to the vocabulary must be in it."""
    added = read_json_object(folder / "added_tokens.json")
    described = config.get("added_tokens_decoder")
    for index, token in described.items() if isinstance(described, dict) else ():
        text = token.get("content") if isinstance(token, dict) else token
        added[str(text)] = int(index) if index.isdecimal() else -1
    for text, index in added.items():
        if vocabulary.get(text) != index:
            raise ModelFormatError(
                f"token {text!r} is added to {VOCABULARY_FILE}; that needs a tokenizer.json",
                file=folder,
            )


def _normalizer(config: Mapping[str, Any], file: Path) -> normalizers.Normalizer:
    def flag(name: str) -> bool | None:
        value = config.get(name)
        if not isinstance(value, bool | None):
            raise ModelFormatError(f"{name!r} must be true or false, not {value!r}", file=file)
        return value

    return normalizers.BertNormalizer(
        lowercase=flag("do_lower_case") is not False,
        handle_chinese_chars=flag("tokenize_chinese_chars") is not False,
        strip_accents=flag("strip_accents"),
    )
