"""Checked reading of the tokenizer keys of a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.errors import ModelFormatError

PREFIX = "tokenizer.ggml."


class TokenType(IntEnum):
    """Kinds of token in ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class TokenizerMetadata:
    """Tokenizer keys of a GGUF file, each checked as it is read.

    Every method raises `ModelFormatError` naming the file and the key when a value is missing,
    has the wrong type or contradicts the number of tokens. Keys are given without their prefix.
    """

    def __init__(self, metadata: Mapping[str, Any], file: object) -> None:
        self._metadata = metadata
        self._file = file
        self.tokens = self.strings("tokens")

    def error(self, key: str, problem: str) -> ModelFormatError:
        """An error about one key."""
        return ModelFormatError(f"metadata key '{PREFIX}{key}' {problem}", file=self._file)

    def get(self, key: str) -> Any:
        """The value as stored, or None."""
        return self._metadata.get(PREFIX + key)

    def strings(self, key: str) -> list[str]:
        """A list of strings that must be there."""
        value = self.get(key)
        if value is None:
            raise self.error(key, "is missing; the file carries no complete tokenizer")
        if not isinstance(value, (list, tuple)) or not set(map(type, value)) <= {str}:
            raise self.error(key, "must be an array of strings")
        return list(value)

    def per_token(self, key: str) -> npt.NDArray[np.float64]:
        """A finite number for every token."""
        value = self.get(key)
        if value is None:
            raise self.error(key, "is missing; this kind of tokenizer needs one per token")
        try:
            numbers = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise self.error(key, "must be an array of numbers") from None
        if numbers.shape != (len(self.tokens),):
            raise self.error(
                key, f"has shape {numbers.shape}, but there are {len(self.tokens):,} tokens"
            )
        if not np.isfinite(numbers).all():
            raise self.error(key, f"is not finite for token {np.argmin(np.isfinite(numbers))}")
        return numbers

    def ids_of(self, *kinds: TokenType) -> list[int]:
        """Ids of the tokens of some kinds; all are normal when the file does not say."""
        if self.get("token_type") is None:
            return list(range(len(self.tokens))) if TokenType.NORMAL in kinds else []
        ids: list[int] = np.flatnonzero(np.isin(self.per_token("token_type"), kinds)).tolist()
        return ids

    def token_id(self, key: str) -> int | None:
        """An id inside the vocabulary, or None when the file does not give it."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise self.error(key, f"must be a token id, not {value!r}")
        if not 0 <= value < len(self.tokens):
            raise self.error(key, f"is {value}, outside the {len(self.tokens):,} tokens")
        return int(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean, or the default when the file does not give it."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, (bool, np.bool_)):
            raise self.error(key, f"must be true or false, not {value!r}")
        return bool(value)
