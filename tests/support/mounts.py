"""Disks that a test mounts, where it may."""

from __future__ import annotations

import os
import subprocess
import sys
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
