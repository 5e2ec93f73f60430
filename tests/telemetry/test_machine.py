from __future__ import annotations

import os
from pathlib import Path

from lepton.telemetry.machine import inspect_machine

GIBIBYTE = 1 << 30


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_this_machine() -> None:
    machine = inspect_machine()
    assert machine.memory_total >= machine.memory_available > 0
    assert 1 <= machine.threads <= machine.affinity_processors == len(os.sched_getaffinity(0))


def test_limits_of_every_group_above_hold(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:       8388608 kB\nMemAvailable:   4194304 kB\n",
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Made Up 9000\n",
            "proc/self/cgroup": "0::/system.slice/lepton.service\n",
            "sys/fs/cgroup/system.slice/lepton.service/cpu.max": "max 100000\n",
            "sys/fs/cgroup/system.slice/lepton.service/memory.max": f"{3 * GIBIBYTE}\n",
            "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/system.slice/memory.max": f"{2 * GIBIBYTE}\n",
        },
    )
    machine = inspect_machine(root)
    assert machine.processor == "Made Up 9000"
    assert machine.memory_total == 8 * GIBIBYTE
    assert machine.memory_available == 4 * GIBIBYTE
    assert machine.cgroup_processors == 1.5
    assert machine.cgroup_memory_limit == 2 * GIBIBYTE
    assert machine.threads == 1


def test_version_1_groups(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/box\n4:cpu,cpuacct:/box\n1:name=systemd:/box\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{GIBIBYTE}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    machine = inspect_machine(root)
    assert machine.cgroup_processors == 0.5
    assert machine.threads == 1
    assert machine.cgroup_memory_limit == GIBIBYTE


def test_no_limits_and_nothing_readable(tmp_path: Path) -> None:
    machine = inspect_machine(tmp_path)
    assert machine.cgroup_processors is None
    assert machine.cgroup_memory_limit is None
    assert machine.memory_total == 0
    assert machine.threads == machine.affinity_processors


def test_nonsense_is_no_limit(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../escape\nrubbish\n",
            "sys/fs/cgroup/escape/cpu.max": "-1 0\n",
            "sys/fs/cgroup/cpu.max": "100 0\n",
            "sys/fs/cgroup/memory.max": "max\n",
        },
    )
    machine = inspect_machine(root)
    assert machine.cgroup_processors is None
    assert machine.cgroup_memory_limit is None


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"}


def test_memory_of_this_machine() -> None:
    assert 2**20 < inspect_machine().available_memory < 2**50


def test_memory_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            **MEMINFO,
            "proc/self/cgroup": "0::/user\n",
            "sys/fs/cgroup/user/memory.max": "max\n",
            "sys/fs/cgroup/user/memory.current": "1024\n",
        },
    )
    assert inspect_machine(root).available_memory == 8000 * 1024


def test_memory_left_by_every_group_above(tmp_path: Path) -> None:
    root = _write(
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
    assert inspect_machine(root).available_memory == 500_000


def test_memory_left_by_version_1(tmp_path: Path) -> None:
    root = _write(
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
    assert inspect_machine(root).available_memory == 1_500_000


def test_a_namespaced_group_is_the_mount_itself(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            **MEMINFO,
            "proc/self/cgroup": "0::/../../elsewhere\n",
            "sys/fs/cgroup/memory.max": "3000000\n",
            "sys/fs/cgroup/memory.current": "1000000\n",
        },
    )
    assert inspect_machine(root).available_memory == 2_000_000


def test_memory_where_nothing_can_be_read(tmp_path: Path) -> None:
    assert inspect_machine(tmp_path).available_memory == 2**30
