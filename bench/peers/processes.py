"""What processes take of the machine, and servers among them that have to come up."""

from __future__ import annotations

import http.client
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

_IDLE_SECONDS = 2.0
_SETTLE_SECONDS = 1.0
_START_SECONDS = 300.0


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_ready(process: subprocess.Popen[bytes], port: int, path: str) -> bool:
    """Wait until a server answers ``path`` with 200; False if it ended, or takes minutes."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == http.client.OK:
                return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def family(pid: int) -> list[int]:
    """A process and everything it started."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def idle_percentage(pids: Sequence[int]) -> float:
    """Processor time the processes take now while nothing is asked, in percent of one."""
    time.sleep(_SETTLE_SECONDS)
    before = processor_seconds(pids)
    time.sleep(_IDLE_SECONDS)
    return 100 * (processor_seconds(pids) - before) / _IDLE_SECONDS


def peak_memory(pids: Sequence[int]) -> float:
    """Bytes that were resident at most, summed over the processes; mapped files count."""
    return float(sum(_status(pid, "VmHWM") for pid in pids))


def processor_seconds(pids: Sequence[int]) -> float:
    """Processor time that the processes have taken since they began."""
    times = (psutil.Process(pid).cpu_times() for pid in pids)
    return float(sum(each.user + each.system for each in times))


def resident_memory(pids: Sequence[int]) -> float:
    """Bytes that are resident now, summed over the processes."""
    return float(sum(_status(pid, "VmRSS") for pid in pids))


def _status(pid: int, field: str) -> int:
    """Bytes that a field of /proc/<pid>/status says."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0
