"""A tokenizer from a Hugging Face model folder.

Reads ``tokenizer.json`` and, where they are there, ``tokenizer_config.json``,
``special_tokens_map.json``, ``generation_config.json`` and ``config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from lepton.errors import ModelFormatError
from lepton.models.tokenizer.parts import TokenizerParts, end_of_turn_ids
from lepton.models.tokenizer.pieces import PieceBytes, byte_level_bytes, sentencepiece_bytes

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def parts_from_folder(folder: Path) -> TokenizerParts:
    """Build a tokenizer from the files of a model folder.

    Raises:
        ModelFormatError: ``tokenizer.json`` is missing, damaged or of an unsupported kind.
    """
    file = folder / "tokenizer.json"
    description = read_json_object(file, required=True)
    try:
        library = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare exceptions
        raise ModelFormatError(f"not a usable tokenizer: {error}", file=file) from error
    library.no_truncation()
    library.no_padding()
    config = read_json_object(folder / "tokenizer_config.json")
    named = named_tokens(
        _NAMED_TOKENS, config, read_json_object(folder / "special_tokens_map.json")
    )
    ids = {name: library.token_to_id(text) for name, text in named.items()}
    added = library.get_added_tokens_decoder()
    special = {index for index, token in added.items() if token.special}
    ends = set(end_of_turn_ids((index, added[index].content) for index in special))
    ends |= set(_declared_ends(folder, library.get_vocab_size(with_added_tokens=True)))
    ends |= {index for name, index in ids.items() if name == "eos_token" and index is not None}
    decoders = list(_steps(description.get("decoder"), "decoders"))
    template_bos, template_eos = _template_ends(library)
    bos = ids.get("bos_token", template_bos)
    eos = ids.get("eos_token", template_eos)
    add_bos = _flag(config, "add_bos_token", template_bos is not None)
    add_eos = _flag(config, "add_eos_token", template_eos is not None)
    return TokenizerParts(
        library=library,
        pieces=_pieces(library),
        piece_bytes=_piece_bytes(decoders, file),
        added_tokens={index: token.content for index, token in added.items()},
        special_token_ids=frozenset(special | ends | {i for i in ids.values() if i is not None}),
        bos_token_id=bos,
        eos_token_id=eos,
        eos_token_ids=frozenset(ends),
        add_bos=bos is not None and add_bos,
        add_eos=eos is not None and add_eos,
        strip_leading_space=any(_strips_leading_space(step) for step in decoders),
        named_tokens=named,
    )


def read_json_object(file: Path, *, required: bool = False) -> dict[str, Any]:
    """Contents of a JSON file, or an empty object when an optional file is not there.

    Raises:
        ModelFormatError: the file is required and missing, or is not a JSON object.
    """
    value = _read_json(file, required=required)
    if not isinstance(value, dict):
        raise ModelFormatError("must hold a JSON object", file=file)
    return value


def read_json_array(file: Path) -> list[Any]:
    """Contents of a JSON file that must be there and hold an array; raises ModelFormatError."""
    value = _read_json(file, required=True)
    if not isinstance(value, list):
        raise ModelFormatError("must hold a JSON array", file=file)
    return value


def _read_json(file: Path, *, required: bool) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ModelFormatError("the model folder has no such file", file=file) from None
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFormatError(f"cannot be read as JSON: {error}", file=file) from None


def named_tokens(names: Iterable[str], *sources: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by name; a value is the text or an object with its ``content``."""
    named = {}
    for name in names:
        for source in sources:
            value = source.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                named[name] = text
                break
    return named


def _declared_ends(folder: Path, limit: int) -> Iterator[int]:
    """End tokens that the generation or model configuration lists."""
    for name in ("generation_config.json", "config.json"):
        declared = read_json_object(folder / name).get("eos_token_id")
        if declared is None:
            continue
        for token in declared if isinstance(declared, list) else [declared]:
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < limit:
                raise ModelFormatError(
                    f"'eos_token_id' holds {token!r}, which is no token id below {limit:,}",
                    file=folder / name,
                )
            yield token


def _steps(description: Any, children: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a component, sequences flattened."""
    if not isinstance(description, dict):
        return
    if description.get("type") == "Sequence":
        for child in description.get(children) or ():
            yield from _steps(child, children)
    else:
        yield description


def _piece_bytes(decoders: list[Mapping[str, Any]], file: Path) -> PieceBytes:
    kinds = {step.get("type") for step in decoders}
    if "ByteLevel" in kinds:
        return byte_level_bytes
    if kinds & {"ByteFallback", "Metaspace"}:
        return sentencepiece_bytes
    raise ModelFormatError(
        f"decoder {sorted(map(str, kinds))} is not supported; "
        "supported are byte-level and SentencePiece (byte fallback) vocabularies",
        file=file,
    )


def _strips_leading_space(step: Mapping[str, Any]) -> bool:
    if step.get("type") == "Strip":
        return step.get("content") == " " and bool(step.get("start"))
    if step.get("type") == "Metaspace":
        scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space") else "never")
        return bool(scheme != "never")
    return False


def _template_ends(library: tokenizers.Tokenizer) -> tuple[int | None, int | None]:
    """Tokens that the file's own template puts before and after a text."""
    bare = library.encode("a", add_special_tokens=False).ids
    full = library.encode("a", add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        end = start + len(bare)
        if full[start:end] == bare:
            return (full[0] if start else None), (full[-1] if end < len(full) else None)
    return None, None


def _flag(config: Mapping[str, Any], key: str, default: bool) -> bool:
    value = config.get(key)
    return value if isinstance(value, bool) else default


def _pieces(library: tokenizers.Tokenizer) -> list[str | None]:
    vocabulary = library.get_vocab(with_added_tokens=True)
    pieces: list[str | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for piece, index in vocabulary.items():
        pieces[index] = piece
    return pieces
