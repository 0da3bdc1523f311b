"""What the system and optional packages need, once."""

from __future__ import annotations

from . import disks, files, machine, memory
from .blas import one_blas_thread
from .extras import DISTRIBUTION, require
from .lock import held, hold_through_fork, locked, release
from .text import many, printable, size

__all__ = [
    "DISTRIBUTION",
    "disks",
    "files",
    "held",
    "hold_through_fork",
    "locked",
    "machine",
    "many",
    "memory",
    "one_blas_thread",
    "printable",
    "release",
    "require",
    "size",
]


def __dir__() -> list[str]:
    return __all__
