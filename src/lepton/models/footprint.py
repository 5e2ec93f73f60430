"""How much memory a model takes: its weights once, and its KV cache by context."""

from __future__ import annotations

from dataclasses import dataclass

from lepton.models.executors import CACHE_TYPES, KvDtype, cache_bytes_per_token

PROCESS_BYTES = 200 * 1024 * 1024
"""The interpreter, the server and the tokenizer, beside weights and cache."""

CACHE_SHARE = 4
"""An engine takes at most one part in so many of the free memory for its cache, unless told."""


@dataclass(frozen=True)
class Footprint:
    """Sizes in bytes, contexts in tokens."""

    weights: int
    layers: int
    kv_heads: int
    head_dim: int
    context_length: int
    kv_dtype: KvDtype = "bf16"

    @property
    def cache_per_token(self) -> int:
        """Bytes of keys and values that one token takes over all layers."""
        return cache_bytes_per_token(
            self.layers, self.kv_heads, self.head_dim, CACHE_TYPES[self.kv_dtype]
        )

    def memory(self, context: int, sequences: int = 1) -> int:
        """Bytes for ``sequences`` contexts of ``context`` tokens each."""
        return PROCESS_BYTES + self.weights + self.cache_per_token * context * sequences

    def largest_context(self, memory: int) -> int:
        """Most tokens one sequence can have on a machine with ``memory`` bytes free; 0: none."""
        room = min(memory - self.memory(0), memory // CACHE_SHARE)
        return 0 if room <= 0 else min(self.context_length, room // self.cache_per_token)
