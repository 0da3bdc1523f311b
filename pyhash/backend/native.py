"""The C++ core: whether it is there, and why not."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from ..support import DISTRIBUTION

if TYPE_CHECKING:
    from .contract import Kernel


def kernels() -> list[Kernel]:
    """Return the compiled kernels that can run here, best first; none without the C++ core."""
    return list(_load()[0])


def cpu_features() -> list[str]:
    """Return what CPU and operating system offer of what the C++ kernels ask for; empty without the C++ core."""
    return list(_load()[1])


def why_no_native() -> str | None:
    """Return why the C++ core is not there, or None when it is."""
    return _load()[2]


@functools.cache
def _load() -> tuple[list[Kernel], list[str], str | None]:
    """Return kernels, CPU features, and why there are none."""
    try:
        from .. import _native as core
    except ImportError as error:
        if importlib.util.find_spec("pyhash._native") is None:
            return [], [], _why_missing()
        return [], [], f"pyhash._native cannot be loaded: {error}"
    return [*core.kernels()], core.cpu_features(), None


def _why_missing() -> str:
    """Say why there is no compiled module: most often because it was not compiled, or because a clone is imported."""
    here = Path(__file__).resolve().parents[1]
    for distribution in importlib.metadata.distributions(name=DISTRIBUTION):
        installed = Path(str(distribution.locate_file(here.name))).resolve()
        if installed != here and any(installed.glob("_native.*.so")):
            return (
                f"pyhash is imported from {here}, which hides the installed package in {installed}; start Python in "
                "another folder, or install this one with `pip install -e .`"
            )
    return f"the compiled module was not found in {here}; it was not compiled when pyhash was installed"
