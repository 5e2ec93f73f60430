"""Who may call: API keys and their limits."""

from lepton.security.keys import (
    ApiKey,
    KeyFile,
    KeyLimits,
    KeyRing,
    generate_key,
    hash_key,
    load_keys,
)

__all__ = [
    "ApiKey",
    "KeyFile",
    "KeyLimits",
    "KeyRing",
    "generate_key",
    "hash_key",
    "load_keys",
]
