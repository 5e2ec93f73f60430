"""Typed reading of a checkpoint's configuration, GGUF metadata and config.json alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lepton.errors import ModelFormatError
from lepton.models.weights import Checkpoint

MAX_INTEGER = 2**31 - 1
MAX_HEAD_DIM = 4096

_GGUF_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "layer_norm_eps": "attention.layer_norm_epsilon",
    "max_position_embeddings": "context_length",
    "rope_theta": "rope.freq_base",
    "rope_local_base_freq": "rope.freq_base_swa",
    "is_causal": "attention.causal",
    "sliding_window": "attention.sliding_window",
    "sliding_window_pattern": "attention.sliding_window_pattern",
}


class Fields:
    """A checkpoint's configuration, asked for by the keys of Hugging Face's config.json.

    In GGUF the same key is looked up under its name there (``hidden_size`` is
    ``llama.embedding_length``); keys GGUF has alone are asked for by their own name without the
    architecture. Every getter raises ModelFormatError, naming file and key, for a value of the
    wrong type or range, or one that is missing and has no default.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        file: object,
        prefix: str = "",
        gguf: bool = False,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._values = values
        self._file = file
        self._prefix = prefix
        self._defaults = defaults or {}
        self.is_gguf = gguf

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Fields:
        """The fields of the text decoder a checkpoint holds."""
        values = checkpoint.metadata
        if checkpoint.format == "gguf":
            name = values.get("general.architecture")
            return cls(values, file=checkpoint.path, prefix=f"{name}.", gguf=True)
        folder = checkpoint.path
        fields = cls(values, file=folder / "config.json" if folder.is_dir() else folder)
        fields.refuse("quantization_config")
        return fields.section("text_config") or fields

    def with_defaults(self, defaults: Mapping[str, Any]) -> Fields:
        """The same fields, with values for keys that the file does not mention."""
        return Fields(
            self._values,
            file=self._file,
            prefix=self._prefix,
            gguf=self.is_gguf,
            defaults=defaults,
        )

    def key(self, key: str) -> str:
        """The key as it stands in the file."""
        if not self.is_gguf:
            return f"{self._prefix}{key}"
        return f"{self._prefix}{_GGUF_KEYS.get(key, key)}"

    def error(self, key: str, message: str) -> ModelFormatError:
        """An error about one key."""
        return ModelFormatError(f"{self.key(key)!r} {message}", file=self._file)

    def get(self, key: str) -> Any:
        """The value as it is, or None when it is null or missing without a default."""
        name = self.key(key) if self.is_gguf else key
        return self._values[name] if name in self._values else self._defaults.get(key)

    def has(self, key: str) -> bool:
        """Whether the file mentions the key, if only with null."""
        return (self.key(key) if self.is_gguf else key) in self._values

    def section(self, key: str) -> Fields | None:
        """The object under a key of config.json, or None when it is missing or null."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.error(key, "is not an object")
        return Fields(value, file=self._file, prefix=f"{self._prefix}{key}.")

    def text(self, key: str) -> str | None:
        """A string."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, f"is {value!r:.80}, not a string")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A boolean."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, f"is {value!r:.80}, not true or false")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer from 1 to 2³¹ - 1."""
        value = self.optional_integer(key)
        if value is not None:
            return value
        if default is None:
            raise self.error(key, "is missing")
        return default

    def optional_integer(self, key: str) -> int | None:
        """An integer from 1 to 2³¹ - 1, or None when it is missing or null."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, np.ndarray):
            if len(set(value.tolist())) != 1:
                raise self.error(key, "differs between layers, which is not supported")
            value = value.tolist()[0]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"is {value!r:.80}, not an integer")
        if not 1 <= value <= MAX_INTEGER:
            raise self.error(key, f"is {value!r:.80}, outside 1 … {MAX_INTEGER}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number greater than zero."""
        value = self.optional_number(key)
        if value is not None:
            return value
        if default is None:
            raise self.error(key, "is missing")
        return default

    def optional_number(self, key: str) -> float | None:
        """A finite number greater than zero, or None when it is missing or null."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, f"is {value!r:.80}, not a number")
        number = float(value) if abs(value) <= 1e30 else math.inf
        if not 0 < number < math.inf:
            raise self.error(key, f"is {value!r:.80}, not a number between 0 and 1e30")
        return number

    def refuse(self, *keys: str) -> None:
        """Raise if a key asks for a feature that is not supported: is not null, 0 or false."""
        for key in keys:
            value = self.get(key)
            if value is not None and value is not False and value != 0:
                raise self.error(key, f"is {value!r:.80}: this feature is not supported")
