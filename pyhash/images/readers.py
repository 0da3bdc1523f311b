"""What reads images here: with other software a file may be read that could not be."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata

from ..support import DISTRIBUTION

__all__ = ["readers"]

_PACKAGES = (DISTRIBUTION, "pillow", "pi-heif", "pillow-heif", "rawpy", "pillow-avif-plugin", "pillow-jxl-plugin")


@functools.cache
def readers() -> str:
    """Return the packages that read images, or make Pillow read more of them, with their versions."""
    found = []
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)
