from __future__ import annotations

from pathlib import Path

from lepton.engine.memory import available_memory


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"}


def test_of_this_machine() -> None:
    assert 2**20 < available_memory() < 2**50


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            **MEMINFO,
            "proc/self/cgroup": "0::/user\n",
            "sys/fs/cgroup/user/memory.max": "max\n",
            "sys/fs/cgroup/user/memory.current": "1024\n",
        },
    )
    assert available_memory(root) == 8000 * 1024


def test_version_2_limits_hold_in_every_group_above(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            **MEMINFO,
            "proc/self/cgroup": "0::/pod/container\n",
            "sys/fs/cgroup/pod/memory.max": "1000000\n",
            "sys/fs/cgroup/pod/memory.current": "600000\n",
            "sys/fs/cgroup/pod/memory.stat": "anon 5\ninactive_file 100000\n",
            "sys/fs/cgroup/pod/container/memory.max": "max\n",
            "sys/fs/cgroup/pod/container/memory.current": "600000\n",
        },
    )
    assert available_memory(root) == 500_000


def test_version_1(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            **MEMINFO,
            "proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "2000000\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "500000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "500000\n",
        },
    )
    assert available_memory(root) == 1_500_000


def test_a_namespaced_group_is_the_mount_itself(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            **MEMINFO,
            "proc/self/cgroup": "0::/../../elsewhere\n",
            "sys/fs/cgroup/memory.max": "3000000\n",
            "sys/fs/cgroup/memory.current": "1000000\n",
        },
    )
    assert available_memory(root) == 2_000_000


def test_where_nothing_can_be_read(tmp_path: Path) -> None:
    assert available_memory(tmp_path) == 2**30
