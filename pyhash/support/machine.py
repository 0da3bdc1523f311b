"""What this process may use of the machine: CPUs and memory, within the limits of its container."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

resource: Any
try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

__all__ = ["available_memory", "cpus", "limit_of_cpus"]

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 writes a number near 2^63 for no limit


def cpus() -> int:
    """Return how many CPUs this process may keep busy: those that it may run on, within its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = limit_of_cpus()
    return count if quota is None else min(count, quota)


@functools.cache  # it is asked at every call, and read from several files
def limit_of_cpus(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Return the CPUs that the quotas of the process's control groups allow, rounded up; None without a quota."""
    quotas = []
    for folder in _groups("cpu", proc, cgroups):
        period: float | None
        if (text := _read(folder / "cpu.max")) is not None:  # version 2: "max 100000", or microseconds of a period
            quota, period = (_number(part) for part in text.split()[:2])
        else:
            quota, period = (_number(_read(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
        if quota is not None and period and quota > 0:
            quotas.append(math.ceil(quota / period))
    return min(quotas, default=None)


def available_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the bytes of memory that can be had without driving others out; `sys.maxsize` where that is not known.

    The least of what the system has left, what each control group up the tree has left of its limit, and what
    RLIMIT_AS leaves of the address space.
    """
    left = [sys.maxsize]
    for line in (_read(proc / "meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            left.append(int(line.split()[1]) * 1024)
    for folder in _groups("memory", proc, cgroups):
        limit, used = _number(_read(folder / "memory.max")), _number(_read(folder / "memory.current"))
        cache = "inactive_file"  # given back when it is asked for
        if used is None:
            limit = _number(_read(folder / "memory.limit_in_bytes"))
            used, cache = _number(_read(folder / "memory.usage_in_bytes")), "total_inactive_file"
        if limit is not None and used is not None and limit < _UNLIMITED:
            statistics = dict(line.split() for line in (_read(folder / "memory.stat") or "").splitlines())
            left.append(int(limit - max(0, used - int(statistics.get(cache, 0)))))
    with contextlib.suppress(AttributeError, ValueError, OSError):
        limit_of_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit_of_space != resource.RLIM_INFINITY:
            pages = int((_read(proc / "self" / "statm") or "0").split()[0])
            left.append(limit_of_space - pages * resource.getpagesize())
    return max(0, min(left))


def _groups(controller: str, proc: Path, cgroups: Path) -> Iterator[Path]:
    """Yield the folders of the process's control groups for a controller, up the tree, of both versions."""
    for line in (_read(proc / "self" / "cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:  # version 2; beside version 1 it lies in a folder of its own
            roots = [cgroups, cgroups / "unified"]
        elif controller in controllers.split(","):
            roots = [cgroups / controllers, cgroups / controller]
        else:
            continue
        for root in dict.fromkeys(roots):
            inside = root / path.lstrip("/")
            if not inside.is_dir():  # a container sees its own group as the root
                inside = root
            for folder in (inside, *inside.parents):
                if not folder.is_relative_to(root):
                    break
                yield folder


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    """Return a number; None for "max", or where there is none."""
    try:
        return float(text or "")
    except ValueError:
        return None
