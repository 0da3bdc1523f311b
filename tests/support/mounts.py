"""Disks that a test mounts, where it may."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(point: Path, *arguments: str | Path) -> Iterator[Path]:
    """Mount something on a folder, which is made; skip the test where that is not allowed."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root may mount")
    point.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", *arguments, point], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


@contextmanager
def on_another_disk(path: Path) -> Iterator[Path]:
    """Give a folder on another file system than a path; skip the test where there is none."""
    for place in map(Path, ("/dev/shm", Path.home(), "/var/tmp")):
        if place.is_dir() and os.access(place, os.W_OK) and place.stat().st_dev != path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                yield Path(folder)
            return
    pytest.skip("there is one file system only")
