"""Models on hubs that serve files over HTTP: Hugging Face and ModelScope.

Downloads resume with HTTP range requests (RFC 9110, section 14). A hub names the SHA-256 of a large
file in the ``X-Linked-Etag`` header, which stands in where the catalogue has no digest.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import quote

from lepton.errors import DownloadError
from lepton.models.sources import ProgressCallback, Source

if TYPE_CHECKING:
    import httpx

_ATTEMPTS = 5
_CONNECTING_ATTEMPTS = 2
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class HubSource(Source):
    """A file of a repository on a hub, at a branch, tag or commit."""

    hub: str
    """"huggingface" or "modelscope"."""
    repository: str
    path: str
    revision: str

    @property
    def kind(self) -> str:
        """The hub's name."""
        return self.hub

    @property
    def address(self) -> str:
        """Hub, repository and path."""
        return f"{self.hub}:{self.repository}/{self.path}"

    @property
    def url(self) -> str:
        """Address of the file; ``HF_ENDPOINT`` or ``MODELSCOPE_ENDPOINT`` chooses a mirror."""
        if self.hub == "huggingface":
            base = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        else:
            base = os.environ.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn"
            base = f"{base.rstrip('/')}/models"
        path = f"{self.repository}/resolve/{self.revision}/{self.path}"
        return f"{base.rstrip('/')}/{quote(path)}"

    def fetch(self, part: Path, progress: ProgressCallback) -> str | None:
        """Download over HTTP, with ``HF_TOKEN`` where it is set; see ``Source.fetch``."""
        token = os.environ.get("HF_TOKEN") if self.hub == "huggingface" else None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return download(self.url, part, size=self.size, headers=headers, progress=progress)


def download(
    url: str,
    part: Path,
    *,
    size: int | None,
    headers: dict[str, str],
    progress: ProgressCallback,
    sleep: Callable[[float], None] = time.sleep,
) -> str | None:
    """Download ``url`` into ``part``, continuing what it holds, over several broken connections.

    Returns:
        The SHA-256 that the server reports, or None.

    Raises:
        DownloadError: the server refuses, sends more than ``size`` bytes, or five attempts in a
            row bring nothing (two, where it cannot even be reached).
    """
    httpx = _import_httpx()
    timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
    failures = 0
    with httpx.Client(follow_redirects=True, timeout=timeout, headers=headers) as client:
        while True:
            before = _size(part)
            try:
                return _attempt(client, url, part, size, progress)
            except (httpx.TransportError, _PassingError) as error:
                failures = 1 if _size(part) > before else failures + 1
                connecting = isinstance(error, httpx.ConnectError)
                if failures >= (_CONNECTING_ATTEMPTS if connecting else _ATTEMPTS):
                    raise DownloadError(
                        f"{url} cannot be downloaded: {error or type(error).__name__}; "
                        "pull again to resume, or choose another --source"
                    ) from error
                sleep(min(2.0**failures, 30.0) / 2)
            except httpx.InvalidURL as error:
                raise DownloadError(f"{url} is not a valid address: {error}") from error


class _PassingError(Exception):
    """The server answered something that may be different next time."""


def _attempt(
    client: httpx.Client, url: str, part: Path, size: int | None, progress: ProgressCallback
) -> str | None:
    tag_file = part.with_name(f"{part.name}.etag")
    offset = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if tag_file.exists():
            headers["If-Range"] = tag_file.read_text("ascii")
    with client.stream("GET", url, headers=headers) as response:
        digest = _reported_digest(response)
        if response.status_code == 416 and _complete(response, offset):
            tag_file.unlink(missing_ok=True)
            return digest
        _check_status(response, url, part)
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            part.unlink()
            raise _PassingError("the server resumed at the wrong byte")
        offset = offset if resumed else 0
        _note_tag(response, tag_file)
        _write(response, part, offset, size, progress)
    tag_file.unlink(missing_ok=True)
    return digest


def _check_status(response: httpx.Response, url: str, part: Path) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status == 416:
        part.unlink(missing_ok=True)
        raise _PassingError("the server holds less than was downloaded before")
    if status in _PASSING_STATUS:
        raise _PassingError(f"HTTP {status}")
    if status in (401, 403):
        advice = "accept its licence on the hub and set HF_TOKEN, or choose another --source"
    elif status == 404:
        advice = "the file has moved: choose another --source"
    else:
        advice = "choose another --source"
    raise DownloadError(f"{url} answered HTTP {status}; {advice}")


def _write(
    response: httpx.Response, part: Path, offset: int, size: int | None, progress: ProgressCallback
) -> None:
    length = response.headers.get("Content-Length", "")
    total = offset + int(length) if length.isdigit() else size
    done = offset
    with part.open("ab" if offset else "wb") as output:
        for chunk in response.iter_raw():
            done += len(chunk)
            if size is not None and done > size:
                output.close()
                part.unlink()
                raise DownloadError(f"{response.url} sends more than the {size:,} bytes promised")
            output.write(chunk)
            progress("download", done, total)


def _complete(response: httpx.Response, offset: int) -> bool:
    return bool(response.headers.get("Content-Range", "").strip() == f"bytes */{offset}")


def _note_tag(response: httpx.Response, tag_file: Path) -> None:
    tag = response.headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', tag):
        tag_file.write_text(tag, "ascii")
    else:
        tag_file.unlink(missing_ok=True)


def _reported_digest(response: httpx.Response) -> str | None:
    for answer in (*response.history, response):
        match = re.fullmatch(r'"?([0-9a-fA-F]{64})"?', answer.headers.get("X-Linked-Etag", ""))
        if match:
            return match.group(1).lower()
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _import_httpx() -> ModuleType:
    try:
        import httpx
    except ImportError:
        raise DownloadError(
            "hubs need the httpx package: pip install 'lepton-engine[serve]'"
        ) from None
    return httpx
