"""Text to token ids and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lepton.errors import EngineError, RequestError
from lepton.models.tokenizer.detokenizer import Detokenizer
from lepton.models.tokenizer.from_gguf import parts_from_gguf
from lepton.models.tokenizer.from_json import parts_from_folder
from lepton.models.tokenizer.parts import TokenizerParts

if TYPE_CHECKING:
    from lepton.models.weights import Checkpoint


CHARACTERS_PER_TOKEN = 8
"""More than ordinary text has on average."""
_TOKENS_AT_A_CUT = 256
"""More than a cut in a text can add."""


class Tokenizer:
    """The vocabulary of one model: encodes text to token ids, decodes ids to text.

    Immutable, and safe for use from several threads.
    """

    def __init__(self, parts: TokenizerParts) -> None:
        self._parts = parts

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Tokenizer:
        """Build the tokenizer that came with a model's weights.

        Raises:
            ModelFormatError: it is missing, damaged, or of a kind that is not supported.
        """
        if checkpoint.format == "gguf":
            return cls(parts_from_gguf(checkpoint.metadata, file=checkpoint.path))
        return cls(parts_from_folder(checkpoint.path))

    @property
    def vocab_size(self) -> int:
        """Number of token ids; a model's output may be padded to more."""
        return len(self._parts.pieces)

    @property
    def bos_token_id(self) -> int | None:
        """Token that begins a text, or None."""
        return self._parts.bos_token_id

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Every token that ends a text or a turn."""
        return self._parts.eos_token_ids

    @property
    def add_bos(self) -> bool:
        """Whether `encode` begins with the BOS token."""
        return self._parts.add_bos

    @property
    def add_eos(self) -> bool:
        """Whether `encode` ends with the EOS token."""
        return self._parts.add_eos

    @property
    def special_token_ids(self) -> frozenset[int]:
        """Tokens that mark structure rather than text."""
        return self._parts.special_token_ids

    @property
    def named_tokens(self) -> Mapping[str, str]:
        """Texts of special tokens by the names that chat templates use, such as ``bos_token``."""
        return self._parts.named_tokens

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. Special tokens written out in the text are recognised.

        Args:
            text: any Unicode text.
            add_special_tokens: add BOS and EOS where the model's rules ask for them. A rendered
                chat template carries its own: encode it with False.

        Raises:
            RequestError: the text holds a lone surrogate, which no encoding can represent.
            EngineError: the tokenizer's library panicked.
        """
        try:
            # Of a batch the library encodes while other threads run; of a single text it does not.
            (encoding,) = self._parts.library.encode_batch_fast([text], add_special_tokens=False)
            ids: list[int] = encoding.ids
        except (TypeError, UnicodeEncodeError) as error:
            raise _invalid_unicode(text, error) from None
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as panic:
            # A panic in native code is no Exception and would end more than this request.
            raise EngineError("the tokenizer failed on this text") from panic
        if add_special_tokens and self.add_bos and self._parts.bos_token_id is not None:
            ids.insert(0, self._parts.bos_token_id)
        if add_special_tokens and self.add_eos and self._parts.eos_token_id is not None:
            ids.append(self._parts.eos_token_id)
        return ids

    def exceeds(self, text: str, most: int) -> bool:
        """Whether the beginning of a long text tells that it has more than ``most`` tokens.

        False where only all of it would tell: the time this takes does not grow with the text.
        """
        beginning = text[: CHARACTERS_PER_TOKEN * most]
        if len(beginning) == len(text):
            return False
        return len(self.encode(beginning, add_special_tokens=False)) > most + _TOKENS_AT_A_CUT

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Text of token ids. Invalid bytes become U+FFFD; ids without a token become nothing."""
        detokenizer = self.detokenizer(skip_special_tokens=skip_special_tokens)
        pieces = [detokenizer.add(token) for token in ids]
        return "".join((*pieces, detokenizer.flush()))

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes a token stands for; empty for an id without a token."""
        added = self._parts.added_tokens.get(token_id)
        if added is not None:
            return added.encode("utf-8", "replace")
        if not 0 <= token_id < len(self._parts.pieces):
            return b""
        piece = self._parts.pieces[token_id]
        return b"" if piece is None else self._parts.piece_bytes(piece)

    def token_text(self, token_id: int) -> str:
        """A token's own text, for display: part of a character shows as U+FFFD."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def detokenizer(
        self, *, skip_special_tokens: bool = True, continuation: bool = False
    ) -> Detokenizer:
        """A new incremental decoder.

        Args:
            skip_special_tokens: leave special tokens out of the text.
            continuation: the ids continue a text, so a leading space belongs to it and stays.
        """
        special = self._parts.special_token_ids if skip_special_tokens else frozenset()

        def visible_bytes(token_id: int) -> bytes:
            return b"" if token_id in special else self.token_bytes(token_id)

        strip = self._parts.strip_leading_space and not continuation
        return Detokenizer(visible_bytes, strip_leading_space=strip)


def _invalid_unicode(text: object, error: Exception) -> Exception:
    """The reason that the library could not take a text."""
    if not isinstance(text, str):
        return error
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as surrogate:
        return RequestError(
            f"the text is not valid Unicode: lone surrogate U+{ord(text[surrogate.start]):04X} "
            f"at character {surrogate.start}; send well-formed UTF-8",
            code="invalid_unicode",
        )
    return error
