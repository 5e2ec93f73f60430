"""Texts and pairs of texts to the token ids of an encoder, special tokens around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import AddedToken, normalizers

from lepton.errors import ModelFormatError, RequestError
from lepton.models.tokenizer.encoder_gguf import (
    library_from_gguf,
    roberta_template,
    unigram_library,
)
from lepton.models.tokenizer.from_json import read_json_object
from lepton.models.tokenizer.word_pieces import VOCABULARY_FILE, library_from_vocabulary
from lepton.models.weights.e5 import E5Checkpoint

if TYPE_CHECKING:
    from lepton.models.weights import Checkpoint

TokenIds = Sequence[int]


@dataclass(frozen=True)
class Template:
    """Special tokens before, between and after the parts of an input, and the kind of each part.

    A kind is the row of the table of token types; ``between`` belongs to the first part.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    second_kind: int = 0

    @property
    def size(self) -> int:
        """Special tokens of a pair."""
        return len(self.before) + len(self.between) + len(self.after)


@dataclass(frozen=True)
class PairTokens:
    """A pair of texts as one input: token ids and, for each, its kind."""

    token_ids: list[int]
    kinds: list[int]


class TextEncoder:
    """The vocabulary of an encoder. Immutable, and safe for use from several threads."""

    def __init__(
        self,
        library: tokenizers.Tokenizer,
        replacements: Mapping[int, str] | None = None,
        *,
        lowercase: bool = False,
    ) -> None:
        """Take over a tokenizer whose own template says where special tokens go.

        ``replacements`` tells what characters, by their code points, become before that; with
        ``lowercase`` texts are put into lower case first.
        """
        library.no_truncation()
        library.no_padding()
        self._library = library
        self._replacements = replacements
        self._lowercase = lowercase
        self._single = _single_template(library)
        self._pair = _pair_template(library)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, lowercase: bool = False) -> TextEncoder:
        """Build the tokenizer that came with a model's weights.

        Raises ModelFormatError when it is missing, damaged, or of a kind that is not supported.
        """
        if isinstance(checkpoint, E5Checkpoint):
            return cls(e5_library(checkpoint), checkpoint.vocabulary.replacements)
        if checkpoint.format == "gguf":
            return cls(library_from_gguf(checkpoint.metadata, checkpoint.path))
        return cls(library_from_folder(checkpoint.path), lowercase=lowercase)

    @property
    def vocab_size(self) -> int:
        """Number of token ids; a model's table may be padded to more."""
        return int(self._library.get_vocab_size(with_added_tokens=True))

    @property
    def special_tokens(self) -> int:
        """Special tokens that are put around one text."""
        return len(self._single.before) + len(self._single.after)

    @property
    def special_tokens_after(self) -> int:
        """Those of them that follow it."""
        return len(self._single.after)

    @property
    def special_tokens_of_pair(self) -> int:
        """Special tokens that are put around and between two texts."""
        return self._pair.size

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts without special tokens around them.

        Raises RequestError naming the text that is not valid Unicode.
        """
        try:
            prepared = [self._prepared(text) for text in texts]
            encodings = self._library.encode_batch_fast(prepared, add_special_tokens=False)
        except (AttributeError, TypeError, UnicodeEncodeError):
            for number, text in enumerate(texts):
                check_text(text, f"input {number}")
            raise
        return [encoding.ids for encoding in encodings]

    def pieces(self, text: str) -> list[tuple[int, int, int]]:
        """Token id, first and last character (exclusive) of each token of a text."""
        check_text(text, "the text")
        encoding = self._library.encode(text, add_special_tokens=False)
        return [
            (token, *place) for token, place in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def _prepared(self, text: str) -> str:
        """What the library cuts into tokens."""
        text = text.lower() if self._lowercase else text
        if self._replacements is None or (text.isascii() and text.isprintable()):
            return text
        return text.translate(self._replacements)

    def wrap(self, tokens: TokenIds) -> list[int]:
        """A text's tokens with the special tokens before and after."""
        return [*self._single.before, *tokens, *self._single.after]

    def pair(self, first: TokenIds, second: TokenIds, limit: int) -> PairTokens:
        """Two texts' tokens as one input of at most ``limit`` tokens; the longer is cut first."""
        template = self._pair
        left, right = _shares(len(first), len(second), limit - template.size)
        head = [*template.before, *first[:left], *template.between]
        tail = [*second[:right], *template.after]
        return PairTokens(head + tail, [0] * len(head) + [template.second_kind] * len(tail))


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of two texts stay when there is room for so many: the longer gives first."""
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)


def library_from_folder(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer of ``tokenizer.json``, or of ``vocab.txt`` where that is all there is.

    Raises ModelFormatError when the file is missing, damaged, or of a kind that is not supported.
    """
    file, lines = folder / "tokenizer.json", folder / VOCABULARY_FILE
    if not file.exists() and not lines.exists():
        raise ModelFormatError(f"has neither {file.name} nor {lines.name}", file=folder)
    try:
        if not file.exists():
            return library_from_vocabulary(folder)
        read_json_object(file)
        return tokenizers.Tokenizer.from_file(str(file))
    except ModelFormatError:
        raise
    except Exception as error:  # the library raises bare exceptions
        raise ModelFormatError(f"not a usable tokenizer: {error}", file=file) from error


def e5_library(checkpoint: E5Checkpoint) -> tokenizers.Tokenizer:
    """The container's pieces; what characters become before that, the library does not do."""
    vocabulary = checkpoint.vocabulary
    spaces = normalizers.Replace(tokenizers.Regex(" {2,}"), " ")
    library = unigram_library(vocabulary.pieces, vocabulary.unknown, spaces)
    special = (vocabulary.bos, vocabulary.pad, vocabulary.eos, vocabulary.unknown)
    library.add_special_tokens(
        [AddedToken(vocabulary.pieces[token][0], normalized=False) for token in special]
    )
    roberta_template(library, vocabulary.bos, vocabulary.eos)
    return library


def _single_template(library: tokenizers.Tokenizer) -> Template:
    encoding = library.encode("a")
    before, after, inside = [], [], False
    for token, part in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if part is not None:
            inside = True
        elif inside:
            after.append(token)
        else:
            before.append(token)
    return Template(tuple(before), (), tuple(after))


def _pair_template(library: tokenizers.Tokenizer) -> Template:
    encoding = library.encode("a", "a")
    groups: list[list[int]] = [[], [], []]
    at, second_kind = 0, 0
    for token, part, kind in zip(
        encoding.ids, encoding.sequence_ids, encoding.type_ids, strict=True
    ):
        if part is None:
            groups[at].append(token)
        else:
            at = part + 1
            second_kind = kind if part == 1 else second_kind
    before, between, after = map(tuple, groups)
    return Template(before, between, after, second_kind)


def check_text(text: object, name: str) -> None:
    """Raise RequestError, calling it ``name``, for what is no text that an encoding represents."""
    if not isinstance(text, str):
        raise RequestError(f"{name} is {type(text).__name__}, not a text", param="input")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as surrogate:
        raise RequestError(
            f"{name} is not valid Unicode: lone surrogate "
            f"U+{ord(text[surrogate.start]):04X} at character {surrogate.start}; send "
            "well-formed UTF-8",
            param="input",
            code="invalid_unicode",
        ) from None
