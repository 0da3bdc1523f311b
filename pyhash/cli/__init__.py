"""The pyhash command."""

from __future__ import annotations

from .main import cli

__all__ = [
    "cli",
]


def __dir__() -> list[str]:
    return __all__
