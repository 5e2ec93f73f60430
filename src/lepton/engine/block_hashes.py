"""Names for the content of blocks: a chain of SHA-256 over everything up to a block's end."""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Sequence
from hashlib import sha256

from lepton.models.executors.base import BLOCK_SIZE

_SECRET = secrets.token_bytes(32)
"""Of this process: nobody can compute a hash without it."""


class BlockHashes:
    """The hashes of a sequence's full blocks, computed as far as they are asked for.

    The hash of a block covers the salt, every earlier token and its own, so that equal hashes mean
    equal keys and values.
    """

    def __init__(self, salt: str) -> None:
        self._root = sha256(_SECRET + salt.encode()).digest()
        self._hashes: list[bytes] = []

    def copy(self) -> BlockHashes:
        """The same hashes, to be continued on their own."""
        twin = BlockHashes.__new__(BlockHashes)
        twin._root = self._root
        twin._hashes = list(self._hashes)
        return twin

    def upto(self, num_blocks: int, token_ids: Sequence[int]) -> list[bytes]:
        """The hashes of the first ``num_blocks`` blocks of a sequence, which hold ``token_ids``.

        The tokens of blocks whose hashes were asked for before must be the same again.
        """
        known = len(self._hashes)
        if known < num_blocks:
            data = array("i", token_ids[known * BLOCK_SIZE : num_blocks * BLOCK_SIZE]).tobytes()
            width = len(data) // (num_blocks - known)
            last = self._hashes[-1] if known else self._root
            for start in range(0, len(data), width):
                last = sha256(last + data[start : start + width]).digest()
                self._hashes.append(last)
        return self._hashes[:num_blocks]
