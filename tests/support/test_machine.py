"""CPUs and memory within the limits of a container, on folders that look like a system's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyhash.support import machine

GIB = 1 << 30


@pytest.fixture(autouse=True)
def no_limit_of_address_space(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def lay(root: Path, files: dict[str, object]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root / "proc", root / "cgroup"


SYSTEM = {"proc/meminfo": "MemTotal: 67108864 kB\nMemAvailable: 33554432 kB"}


def test_without_groups_the_system_counts(tmp_path: Path) -> None:
    where = lay(tmp_path, SYSTEM)
    assert machine.available_memory(*where) == 32 * GIB
    assert machine.limit_of_cpus(*where) is None
    assert machine.available_memory(tmp_path / "nothing", tmp_path / "nothing") == sys.maxsize


def test_version_2_up_the_tree(tmp_path: Path) -> None:
    """The group has no limit of its own, its parent has; what the cache holds of it can be had."""
    where = lay(
        tmp_path,
        SYSTEM
        | {
            "proc/self/cgroup": "0::/pod/box",
            "cgroup/pod/box/cpu.max": "max 100000",
            "cgroup/pod/cpu.max": "150000 100000",
            "cgroup/pod/box/memory.max": "max",
            "cgroup/pod/box/memory.current": 1,
            "cgroup/pod/memory.max": 3 * GIB,
            "cgroup/pod/memory.current": 2 * GIB,
            "cgroup/pod/memory.stat": f"anon {GIB}\ninactive_file {GIB // 2}",
        },
    )
    assert machine.limit_of_cpus(*where) == 2
    assert machine.available_memory(*where) == 1.5 * GIB


def test_version_2_inside_a_container(tmp_path: Path) -> None:
    """The path of the host is not there; the container's own group lies at the root."""
    where = lay(
        tmp_path,
        SYSTEM
        | {
            "proc/self/cgroup": "0::/docker/0123",
            "cgroup/cpu.max": "50000 100000",
            "cgroup/memory.max": GIB,
            "cgroup/memory.current": GIB // 4,
        },
    )
    assert machine.limit_of_cpus(*where) == 1
    assert machine.available_memory(*where) == 0.75 * GIB


def test_version_1(tmp_path: Path) -> None:
    where = lay(
        tmp_path,
        SYSTEM
        | {
            "proc/self/cgroup": "5:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job",
            "cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": 300_000,
            "cgroup/cpu,cpuacct/job/cpu.cfs_period_us": 100_000,
            "cgroup/cpu,cpuacct/cpu.cfs_quota_us": -1,
            "cgroup/cpu,cpuacct/cpu.cfs_period_us": 100_000,
            "cgroup/memory/job/memory.limit_in_bytes": 2 * GIB,
            "cgroup/memory/job/memory.usage_in_bytes": 2 * GIB,
            "cgroup/memory/job/memory.stat": f"total_inactive_file {GIB}",
            "cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
            "cgroup/memory/memory.usage_in_bytes": 40 * GIB,
        },
    )
    assert machine.limit_of_cpus(*where) == 3
    assert machine.available_memory(*where) == GIB


def test_more_used_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/", "cgroup/memory.max": GIB, "cgroup/memory.current": 2 * GIB}
    assert machine.available_memory(*lay(tmp_path, SYSTEM | files)) == 0


def test_cpus_are_those_of_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system tells no affinity")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5})
    for quota, expected in ((None, 3), (2, 2), (8, 3)):
        monkeypatch.setattr(machine, "limit_of_cpus", lambda quota=quota: quota)
        assert machine.cpus() == expected


def test_a_limit_of_the_address_space_counts() -> None:
    code = """
import resource
from pyhash.support import machine
before = machine.available_memory()
resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
assert 0 < machine.available_memory() < min(before, 1 << 31), (before, machine.available_memory())
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
