from __future__ import annotations

import fcntl
import hashlib
import shutil
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lepton.errors import DownloadError
from lepton.models import hubs
from lepton.models.hubs import HubSource, download
from lepton.models.sources import LocalSource, digest_file, no_progress, obtain, recorded_digest

CONTENT = bytes(range(256)) * 1200
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Hub:
    """What the server holds, how it misbehaves, and what it was asked."""

    content: bytes = CONTENT
    tag: str = '"one"'
    break_after: list[int] = field(default_factory=list)
    """For each coming answer: bytes to send before the connection is cut."""
    statuses: list[int] = field(default_factory=list)
    """Statuses to answer first."""
    ranges: bool = True
    wrong_range: bool = False
    reported: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.requests.append({"path": self.path, **dict(self.headers)})
            if hub.statuses:
                self._refuse(hub.statuses.pop(0))
                return
            start = self._start()
            if start > len(hub.content) or (start and start == len(hub.content)):
                self._refuse(416)
                return
            body = hub.content[start:]
            self.send_response(206 if start else 200)
            if start:
                shown = start + 1 if hub.wrong_range else start
                last, total = len(hub.content) - 1, len(hub.content)
                self.send_header("Content-Range", f"bytes {shown}-{last}/{total}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", hub.tag)
            if hub.reported:
                self.send_header("X-Linked-Etag", f'"{hub.reported}"')
            self.end_headers()
            if hub.break_after:
                self.wfile.write(body[: hub.break_after.pop(0)])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def _start(self) -> int:
            wanted = self.headers.get("Range")
            unchanged = self.headers.get("If-Range", hub.tag) == hub.tag
            if not hub.ranges or wanted is None or not unchanged:
                return 0
            return int(wanted.removeprefix("bytes=").rstrip("-"))

        def _refuse(self, status: int) -> None:
            self.send_response(status)
            if status == 416:
                self.send_header("Content-Range", f"bytes */{len(hub.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def _download(hub: Hub, part: Path, size: int | None = len(CONTENT)) -> str | None:
    return download(
        f"{hub.url}/file", part, size=size, headers={}, progress=no_progress, sleep=lambda _: None
    )


def _hub_source(sha256: str | None = DIGEST, size: int | None = len(CONTENT)) -> HubSource:
    return HubSource(
        file="model.gguf",
        size=size,
        sha256=sha256,
        tried=True,
        hub="huggingface",
        repository="owner/name",
        path="sub folder/model.gguf",
        revision="main",
    )


def test_download_fetches_the_file_and_reports_progress(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    part = tmp_path / "part"
    download(
        f"{hub.url}/file",
        part,
        size=None,
        headers={},
        progress=lambda *event: seen.append(event),
    )
    assert part.read_bytes() == CONTENT
    assert seen[-1] == ("download", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_download_resumes_after_each_broken_connection(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = [1000, 5000, 70_000]
    part = tmp_path / "part"
    _download(hub, part)
    assert part.read_bytes() == CONTENT
    offsets = [request.get("Range") for request in hub.requests]
    assert offsets == [None, "bytes=1000-", "bytes=6000-", "bytes=76000-"]


def test_download_continues_what_a_killed_process_left(hub: Hub, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:12_345])
    _download(hub, part)
    assert part.read_bytes() == CONTENT
    assert [request.get("Range") for request in hub.requests] == ["bytes=12345-"]


def test_download_begins_anew_when_the_file_changed(hub: Hub, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part_tag = part.with_name("part.etag")
    part.write_bytes(b"x" * 500)
    part_tag.write_text('"zero"', "ascii")
    _download(hub, part)
    assert part.read_bytes() == CONTENT
    assert hub.requests[0]["If-Range"] == '"zero"'
    assert not part_tag.exists()


def test_download_begins_anew_when_ranges_are_ignored(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    part = tmp_path / "part"
    part.write_bytes(b"x" * 500)
    _download(hub, part)
    assert part.read_bytes() == CONTENT


def test_download_accepts_a_complete_part(hub: Hub, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT)
    _download(hub, part)
    assert part.read_bytes() == CONTENT
    assert len(hub.requests) == 1


def test_download_replaces_a_part_longer_than_the_file(hub: Hub, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT + b"more")
    _download(hub, part)
    assert part.read_bytes() == CONTENT


def test_download_does_not_trust_a_wrong_range(hub: Hub, tmp_path: Path) -> None:
    hub.wrong_range = True
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:100])
    _download(hub, part)
    assert part.read_bytes() == CONTENT


def test_download_waits_out_passing_refusals(hub: Hub, tmp_path: Path) -> None:
    hub.statuses = [503, 429, 500]
    _download(hub, tmp_path / "part")
    assert len(hub.requests) == 4


def test_download_gives_up_after_five_fruitless_attempts(hub: Hub, tmp_path: Path) -> None:
    hub.statuses = [503] * 50
    with pytest.raises(DownloadError, match=r"HTTP 503.*pull again to resume"):
        _download(hub, tmp_path / "part")
    assert len(hub.requests) == 5


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "HF_TOKEN"), (403, "licence"), (404, "moved"), (400, "--source")]
)
def test_download_explains_a_refusal_at_once(
    hub: Hub, tmp_path: Path, status: int, advice: str
) -> None:
    hub.statuses = [status]
    with pytest.raises(DownloadError, match=advice):
        _download(hub, tmp_path / "part")
    assert len(hub.requests) == 1


def test_download_stops_a_flood(hub: Hub, tmp_path: Path) -> None:
    part = tmp_path / "part"
    with pytest.raises(DownloadError, match="more than the 1,000 bytes"):
        _download(hub, part, size=1000)
    assert not part.exists()


def test_download_soon_gives_up_on_an_unreachable_host(tmp_path: Path) -> None:
    pauses: list[float] = []
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        download(
            "http://127.0.0.1:9/file",
            tmp_path / "part",
            size=None,
            headers={},
            progress=no_progress,
            sleep=pauses.append,
        )
    assert len(pauses) == 1


def test_hub_source_uses_the_mirror_and_the_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/mirror/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = obtain(_hub_source(), tmp_path)
    assert path.read_bytes() == CONTENT
    request = hub.requests[0]
    assert request["path"] == "/mirror/owner/name/resolve/main/sub%20folder/model.gguf"
    assert request["Authorization"] == "Bearer hf_secret"


def test_modelscope_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSCOPE_ENDPOINT", raising=False)
    source = HubSource("a.gguf", None, None, False, "modelscope", "Qwen/X", "a.gguf", "master")
    assert source.url == "https://modelscope.cn/models/Qwen/X/resolve/master/a.gguf"


def test_reported_digest_is_enforced(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.reported = "0" * 64
    with pytest.raises(DownloadError, match="SHA-256"):
        obtain(_hub_source(sha256=None), tmp_path)
    hub.reported = DIGEST
    path = obtain(_hub_source(sha256=None), tmp_path)
    assert recorded_digest(path) == DIGEST


def test_obtain_never_leaves_a_wrong_file_under_the_final_name(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.write_bytes(CONTENT[:-1] + b"!")
    folder = tmp_path / "cache"
    source = LocalSource("model.gguf", len(CONTENT), DIGEST, True, original)
    with pytest.raises(DownloadError, match=DIGEST):
        obtain(source, folder)
    assert not (folder / "model.gguf").exists()
    assert not (folder / "model.gguf.part").exists()


def test_obtain_checks_the_size_first(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.write_bytes(b"short")
    source = LocalSource("model.gguf", len(CONTENT), DIGEST, True, original)
    with pytest.raises(DownloadError, match="5 bytes instead of 307,200"):
        obtain(source, tmp_path / "cache")


def test_obtain_writes_a_digest_that_sha256sum_reads(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.write_bytes(CONTENT)
    path = obtain(LocalSource("model.gguf", None, None, True, original), tmp_path / "cache")
    assert digest_file(path).read_text() == f"{DIGEST}  model.gguf\n"


def test_obtain_fetches_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    for _ in range(2):
        obtain(_hub_source(), tmp_path)
    assert len(hub.requests) == 1


def test_obtain_replaces_a_damaged_file(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    path = obtain(_hub_source(), tmp_path)
    path.write_bytes(b"x" + CONTENT[1:])
    assert obtain(_hub_source(), tmp_path).read_bytes() == CONTENT
    assert len(hub.requests) == 2


def test_two_pulls_at_once_download_once(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    results: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(obtain(_hub_source(), tmp_path).read_bytes())
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT] * 4
    assert len(hub.requests) == 1


def test_a_second_pull_says_that_it_waits(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.write_bytes(CONTENT)
    folder = tmp_path / "cache"
    folder.mkdir()
    lock = (folder / ".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    stages: list[str] = []

    def progress(stage: str, _done: int, _total: int | None) -> None:
        stages.append(stage)
        if stage == "wait":
            lock.close()

    obtain(LocalSource("model.gguf", None, DIGEST, True, original), folder, progress)
    assert stages[0] == "wait"


def test_a_full_disk_is_told_before_the_download(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(DownloadError, match=r"307,200 more bytes.*1,000 free.*LEPTON_HOME"):
        obtain(_hub_source(), tmp_path)
    assert hub.requests == []


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    source = LocalSource("model.gguf", None, None, True, blocked)
    with pytest.raises(DownloadError, match="cannot be written"):
        obtain(source, blocked / "below")


def test_httpx_is_asked_for_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(DownloadError, match="pip install"):
        hubs._import_httpx()
