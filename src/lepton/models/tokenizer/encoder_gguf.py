"""An encoder's tokenizer from the metadata of a GGUF file: WordPiece and Unigram.

Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors

from lepton.errors import ModelFormatError
from lepton.models.tokenizer.from_gguf import parts_from_gguf
from lepton.models.tokenizer.metadata import TokenizerMetadata, TokenType
from lepton.models.tokenizer.pieces import SPACE_MARK
from lepton.models.tokenizer.word_pieces import add_template, word_piece_library


def library_from_gguf(metadata: Mapping[str, Any], file: object) -> tokenizers.Tokenizer:
    """Build a tokenizer with the template of its special tokens.

    Raises ModelFormatError when a key is missing, damaged, or names a kind not supported.
    """
    keys = TokenizerMetadata(metadata, file)
    kind = keys.get("model")
    if kind == "bert":
        return _word_pieces(keys)
    if kind == "t5":
        return _unigram(keys)
    if kind in ("gpt2", "llama"):
        return _from_decoder(metadata, file)
    raise keys.error("model", f"is {kind!r}; supported are bert, t5, gpt2 and llama")


def unigram_library(
    pieces: list[tuple[str, float]], unknown: int, normalizer: normalizers.Normalizer
) -> tokenizers.Tokenizer:
    """SentencePiece's unigram model (arXiv:1804.10959), as XLM-RoBERTa uses it."""
    library = tokenizers.Tokenizer(models.Unigram(pieces, unknown, byte_fallback=False))
    library.normalizer = normalizer
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="always"),
        ]
    )
    return library


def _word_pieces(keys: TokenizerMetadata) -> tokenizers.Tokenizer:
    """WordPiece. The file marks the beginnings of words; the library marks what continues them."""
    special = set(keys.ids_of(TokenType.CONTROL, TokenType.UNKNOWN))
    vocabulary: dict[str, int] = {}
    for index, token in enumerate(keys.tokens):
        begins = token.startswith(SPACE_MARK)
        bracketed = token.startswith("[") and token.endswith("]")
        plain = index in special or bracketed
        text = token if plain else token.removeprefix(SPACE_MARK) if begins else f"##{token}"
        vocabulary.setdefault(text, index)
    first, last = (
        _special(keys, "cls_token_id", "[CLS]"),
        _special(keys, "seperator_token_id", "[SEP]"),
    )
    unknown = keys.token_id("unknown_token_id")
    return word_piece_library(
        vocabulary,
        unknown="[UNK]" if unknown is None else keys.tokens[unknown],
        first=first,
        last=last,
        special=[keys.tokens[index] for index in sorted(special)],
        normalizer=normalizers.BertNormalizer(
            lowercase=keys.flag("normalizer.lowercase", default=True)
        ),
    )


def _unigram(keys: TokenizerMetadata) -> tokenizers.Tokenizer:
    scores = keys.per_token("scores").tolist()
    unknown = keys.token_id("unknown_token_id")
    if unknown is None:
        raise keys.error("unknown_token_id", "is missing")
    charsmap = keys.get("precompiled_charsmap")
    steps: list[normalizers.Normalizer] = []
    if charsmap is not None:
        steps.append(_precompiled(keys, charsmap))
    steps.append(normalizers.Replace(tokenizers.Regex(" {2,}"), " "))
    library = unigram_library(
        list(zip(keys.tokens, scores, strict=True)), unknown, normalizers.Sequence(steps)
    )
    special = keys.ids_of(TokenType.CONTROL)
    library.add_special_tokens(
        [AddedToken(keys.tokens[index], normalized=False, special=True) for index in special]
    )
    first, last = _special(keys, "bos_token_id", "<s>"), _special(keys, "eos_token_id", "</s>")
    add_template(library, first, last, _roberta_pair(first[0], last[0]))
    return library


def roberta_template(library: tokenizers.Tokenizer, first: int, last: int) -> None:
    """The template of RoBERTa and XLM-RoBERTa, by the ids of its special tokens."""
    texts = str(library.id_to_token(first)), str(library.id_to_token(last))
    add_template(library, (texts[0], first), (texts[1], last), _roberta_pair(*texts))


def _roberta_pair(first: str, last: str) -> str:
    return f"{first}:0 $A:0 {last}:0 {last}:0 $B:0 {last}:0"


def _precompiled(keys: TokenizerMetadata, charsmap: Any) -> normalizers.Normalizer:
    try:
        return normalizers.Precompiled(bytes(bytearray(int(byte) & 0xFF for byte in charsmap)))
    except Exception as error:  # the library raises bare exceptions
        raise keys.error("precompiled_charsmap", f"cannot be used: {error}") from error


def _special(keys: TokenizerMetadata, key: str, default: str) -> tuple[str, int]:
    index = keys.token_id(key)
    if index is None:
        if default not in keys.tokens:
            raise keys.error(key, "is missing")
        index = keys.tokens.index(default)
    return keys.tokens[index], index


def _from_decoder(metadata: Mapping[str, Any], file: object) -> tokenizers.Tokenizer:
    """A decoder's vocabulary, with the tokens that its file wants around a text."""
    parts = parts_from_gguf(metadata, file=file)
    before, after = parts.add_bos, parts.add_eos
    names = parts.pieces[parts.bos_token_id or 0], parts.pieces[parts.eos_token_id or 0]
    if (before and names[0] is None) or (after and names[1] is None):
        raise ModelFormatError("a special token has no text", file=file)
    first, last = f"{names[0]}:0 " * before, f" {names[1]}:0" * after
    special = {(str(names[0]), parts.bos_token_id)} if before else set()
    special |= {(str(names[1]), parts.eos_token_id)} if after else set()
    parts.library.post_processor = processors.TemplateProcessing(
        single=f"{first}$A:0{last}", pair=f"{first}$A:0 $B:0{last}", special_tokens=list(special)
    )
    return parts.library
