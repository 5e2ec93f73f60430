"""A tokenizer from the metadata of a GGUF file (keys ``tokenizer.ggml.*``).

Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from lepton.models.tokenizer.metadata import TokenizerMetadata, TokenType
from lepton.models.tokenizer.parts import TokenizerParts, end_of_turn_ids
from lepton.models.tokenizer.pieces import (
    SPACE_MARK,
    byte_level_bytes,
    sentencepiece_bytes,
)
from lepton.models.tokenizer.pretokenizers import PRE_TOKENIZATIONS
from lepton.models.tokenizer.sentencepiece import ranked_merges

_NAMED_KEYS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def parts_from_gguf(metadata: Mapping[str, Any], *, file: object = None) -> TokenizerParts:
    """Build a tokenizer from GGUF metadata.

    Args:
        metadata: key/value pairs of the file.
        file: named in error messages.

    Raises:
        ModelFormatError: a key is missing, damaged, or names a kind that is not supported.
    """
    keys = TokenizerMetadata(metadata, file)
    kind = keys.get("model")
    if kind == "gpt2":
        return _byte_level(keys)
    if kind == "llama":
        return _sentencepiece(keys)
    raise keys.error("model", f"is {kind!r}; supported are 'gpt2' and 'llama'")


def _byte_level(keys: TokenizerMetadata) -> TokenizerParts:
    """Byte-level BPE, as in GPT-2 and Llama 3."""
    name = keys.get("pre")
    name = "default" if name is None else name
    if not isinstance(name, str) or name not in PRE_TOKENIZATIONS:
        supported = ", ".join(PRE_TOKENIZATIONS)
        raise keys.error("pre", f"is {name!r}; supported pre-tokenizers are {supported}")
    rules = PRE_TOKENIZATIONS[name]
    model = _bpe(
        keys,
        _ids_by_text(keys.tokens),
        _listed_merges(keys),
        ignore_merges=rules.ignore_merges,
    )
    library = tokenizers.Tokenizer(model)
    normalizer = rules.normalizer()
    if normalizer is not None:
        library.normalizer = normalizer
    library.pre_tokenizer = rules.pre_tokenizer(
        add_prefix_space=keys.flag("add_space_prefix", default=False)
    )
    return TokenizerParts(
        library=library,
        pieces=keys.tokens,
        piece_bytes=byte_level_bytes,
        added_tokens=_add_tokens(library, keys, keys.tokens),
        **_rules(keys, adds_bos=rules.adds_bos),
    )


def _sentencepiece(keys: TokenizerMetadata) -> TokenizerParts:
    """SentencePiece BPE with byte fallback, as in Gemma and Llama 2."""
    # The normalizer has turned every space of the text into the mark when pieces are looked up.
    pieces = [
        SPACE_MARK * len(token) if token and not token.strip(" ") else token
        for token in keys.tokens
    ]
    merges = ranked_merges(
        pieces,
        keys.per_token("scores"),
        first=keys.ids_of(TokenType.USER_DEFINED),
        then=keys.ids_of(TokenType.NORMAL, TokenType.UNUSED),
    )
    unknown = keys.token_id("unknown_token_id")
    model = _bpe(
        keys,
        _ids_by_text(pieces),
        merges,
        byte_fallback=True,
        fuse_unk=True,
        unk_token=None if unknown is None else pieces[unknown],
    )
    library = tokenizers.Tokenizer(model)
    add_space = keys.flag("add_space_prefix", default=True)
    if add_space:
        library.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement=SPACE_MARK, prepend_scheme="first", split=False
        )
    else:
        library.normalizer = normalizers.Replace(" ", SPACE_MARK)
    return TokenizerParts(
        library=library,
        pieces=pieces,
        piece_bytes=sentencepiece_bytes,
        added_tokens=_add_tokens(library, keys, pieces),
        strip_leading_space=add_space,
        **_rules(keys, adds_bos=True),
    )


def _ids_by_text(tokens: list[str]) -> dict[str, int]:
    """Map texts to ids; of equal texts the first keeps its id."""
    return {token: index for index, token in reversed(list(enumerate(tokens)))}


def _listed_merges(keys: TokenizerMetadata) -> list[tuple[str, str]]:
    merges = []
    for number, merge in enumerate(keys.strings("merges")):
        left, _, right = merge.partition(" ")
        if not left or not right or " " in right:
            raise keys.error("merges", f"has {merge!r} as entry {number}, which is not a pair")
        merges.append((left, right))
    return merges


def _bpe(
    keys: TokenizerMetadata,
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
    **options: Any,
) -> models.BPE:
    try:
        return models.BPE(vocabulary, merges, **options)
    except Exception as error:  # the library raises bare exceptions
        raise keys.error("merges", f"does not fit the vocabulary: {error}") from error


def _add_tokens(
    library: tokenizers.Tokenizer, keys: TokenizerMetadata, pieces: list[str]
) -> dict[int, str]:
    """Make control and user-defined tokens match whole in any text; return their texts by id.

    A run of spaces is left to the merges: the normalizer has renamed it before tokens are matched.
    """
    added: dict[int, str] = {}
    for kind in (TokenType.CONTROL, TokenType.USER_DEFINED):
        texts = {i: pieces[i] for i in keys.ids_of(kind) if pieces[i].strip(SPACE_MARK)}
        special = kind == TokenType.CONTROL
        library.add_tokens(
            [AddedToken(text, normalized=False, special=special) for text in texts.values()]
        )
        added |= texts
    return added


def _rules(keys: TokenizerMetadata, *, adds_bos: bool) -> dict[str, Any]:
    """Special tokens and when they are added: the fields of `TokenizerParts` after the pieces."""
    named = {name: keys.token_id(key) for name, key in _NAMED_KEYS.items()}
    ends = {token for key in _END_KEYS if (token := keys.token_id(key)) is not None}
    special = set(keys.ids_of(TokenType.CONTROL, TokenType.UNKNOWN))
    bos, eos = named["bos_token"], named["eos_token"]
    ends |= end_of_turn_ids((index, keys.tokens[index]) for index in special)
    return {
        "special_token_ids": frozenset(special | ends | ({bos} if bos is not None else set())),
        "bos_token_id": bos,
        "eos_token_id": eos,
        "eos_token_ids": frozenset(ends),
        "add_bos": bos is not None and keys.flag("add_bos_token", default=adds_bos),
        "add_eos": eos is not None and keys.flag("add_eos_token", default=False),
        "named_tokens": {
            name: keys.tokens[token] for name, token in named.items() if token is not None
        },
    }
