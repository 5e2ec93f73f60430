"""API keys: a file of names, hashes and limits; the keys themselves are never stored.

A key carries 256 random bits, so a plain SHA-256 of it is enough: slow, salted password hashes
exist to protect secrets that can be guessed, and nobody guesses 2**256. The file may be TOML

    [[keys]]
    name = "service-desk"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    requests_per_minute = 120     # this and the following are optional: absent means no limit
    concurrent_requests = 8
    max_tokens = 1024
    priority = 0                  # lower numbers are served first; requests may ask for higher ones
    metrics = true                # /metrics shows it what every key asks for; false if absent

or JSON of the same shape, ``{"keys": [{"name": …, "sha256": …}]}``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import stat
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lepton.errors import ConfigurationError

_log = logging.getLogger("lepton.security")

KEY_PREFIX = "lepton-"
MOST_PRIORITY = 1000
MAX_FILE_BYTES = 4 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class KeyLimits:
    """What one key may do at most; None is no limit beyond the server's own."""

    requests_per_minute: int | None = None
    concurrent_requests: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class ApiKey:
    """One entry of the key file."""

    name: str
    digest: bytes = field(repr=False)
    limits: KeyLimits = KeyLimits()
    priority: int = 0
    """Of its requests unless they ask for a higher number, which is served later."""
    metrics: bool = False
    """Whether it may see what every key asks for."""


@dataclass(frozen=True)
class KeyRing:
    """The keys a server accepts."""

    keys: tuple[ApiKey, ...]

    def authenticate(self, secret: str) -> ApiKey | None:
        """The key that ``secret`` is, or None.

        The hash is compared with every entry in constant time, so the duration tells neither how
        much of a hash matched nor where in the file the match stands.
        """
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        found: ApiKey | None = None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def generate_key() -> str:
    """A new key of 256 random bits, in characters that are safe in headers and shells."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(secret: str) -> str:
    """The ``sha256`` field of the key file: lower-case hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def load_keys(path: Path) -> KeyRing:
    """Read a key file, TOML or (when it ends in ``.json``) JSON.

    Raises ConfigurationError that names the file and the entry. Warns when others can read it.
    """
    document = _parse(path)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{path}: expected a list named 'keys' with at least one entry")
    unknown = sorted(set(document) - {"keys"})
    if unknown:
        raise ConfigurationError(f"{path}: unknown field {unknown[0]!r}; expected only 'keys'")
    keys = tuple(_entry(path, number, entry) for number, entry in enumerate(entries, start=1))
    _refuse_duplicates(path, keys)
    return KeyRing(keys)


class KeyFile:
    """A key file that is read again when it changes; a bad edit keeps the keys that worked."""

    def __init__(
        self,
        path: Path,
        *,
        check_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._check_seconds = check_seconds
        self._clock = clock
        self._checked = clock()
        self._stamp = _stamp(path)
        self._ring = load_keys(path)

    def current(self) -> KeyRing:
        """The keys as of at most ``check_seconds`` ago."""
        now = self._clock()
        if now - self._checked >= self._check_seconds:
            self._checked = now
            self._reload_if_changed()
        return self._ring

    def _reload_if_changed(self) -> None:
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._ring = load_keys(self.path)
        except ConfigurationError as error:
            _log.error("key file not reloaded, the previous keys stay valid: %s", error)
        else:
            _log.info("key file %s reloaded: %d keys", self.path, len(self._ring.keys))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _parse(path: Path) -> Any:
    try:
        status = path.stat()
        if status.st_size > MAX_FILE_BYTES:
            raise ConfigurationError(
                f"{path}: {status.st_size:,} bytes is too large for a key file"
            )
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the key file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: byte {error.start}: not UTF-8") from error
    if status.st_mode & stat.S_IROTH:
        _log.warning("key file %s can be read by every user: run chmod o-r on it", path)
    try:
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigurationError(f"{path}: not valid {kind}: {error}") from error


def _entry(path: Path, number: int, entry: Any) -> ApiKey:
    where = f"{path}: key {number}"
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{where}: expected a table with 'name' and 'sha256'")
    name, digest = entry.get("name"), entry.get("sha256")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where}: 'name' must be 1 to 64 letters, digits, '.', '_', '@' or '-'"
        )
    where = f"{where} ({name})"
    if name == "anonymous":
        raise ConfigurationError(f"{where}: this name is reserved for callers without a key")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest.lower()):
        raise ConfigurationError(f"{where}: 'sha256' must be 64 hexadecimal digits")
    limit_names = {limit.name for limit in fields(KeyLimits)}
    unknown = sorted(set(entry) - limit_names - {"name", "sha256", "priority", "metrics"})
    if unknown:
        raise ConfigurationError(f"{where}: unknown field {unknown[0]!r}")
    limits = {limit: entry[limit] for limit in sorted(limit_names & set(entry))}
    for limit, value in limits.items():
        if type(value) is not int or value < 1:
            raise ConfigurationError(f"{where}: {limit!r} must be a whole number of at least 1")
    priority = entry.get("priority", 0)
    if type(priority) is not int or abs(priority) > MOST_PRIORITY:
        raise ConfigurationError(
            f"{where}: 'priority' must be a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}"
        )
    metrics = entry.get("metrics", False)
    if type(metrics) is not bool:
        raise ConfigurationError(f"{where}: 'metrics' must be true or false")
    return ApiKey(name, bytes.fromhex(digest), KeyLimits(**limits), priority, metrics)


def _refuse_duplicates(path: Path, keys: tuple[ApiKey, ...]) -> None:
    names: dict[str, int] = {}
    digests: dict[bytes, int] = {}
    for number, key in enumerate(keys, start=1):
        if key.name in names:
            raise ConfigurationError(
                f"{path}: key {number} ({key.name}): same name as key {names[key.name]}"
            )
        if key.digest in digests:
            raise ConfigurationError(
                f"{path}: key {number} ({key.name}): same hash as key {digests[key.digest]}"
            )
        names[key.name] = number
        digests[key.digest] = number
