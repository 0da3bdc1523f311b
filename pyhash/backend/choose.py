"""The backend: which compute module searches run on, and with how many threads.

There are two: `_native` (C++, several kernels, the best that the CPU can run is taken) and `numba_kernels`. Both keep
the contract in `_native.pyi`, so answers never differ.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import os
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from ..codes import check_int
from ..support import DISTRIBUTION, hold_through_fork, locked, machine

_NUMBA = "numba"
_AUTO = "auto"
_MAX_THREADS = 1024

_lock = threading.RLock()
hold_through_fork(_lock)
_module: ModuleType | None = None  # the active one; None until the first use
_default_threads: int | None = None  # from PYHASH_THREADS; None until the first use


def kernels() -> list[str]:
    """Names of the kernels that can run here, best first; "numba", where installed, comes last.

    Returns
    -------
    list of str
        Such as ``["avx512", "avx2", "scalar", "numba"]``; each is a name for `use` and PYHASH_KERNEL.
    """
    native, _ = _native()
    names = [] if native is None else list(native.available_kernels())
    return [*names, _NUMBA] if importlib.util.find_spec("numba") is not None else names


def kernel() -> str:
    """Name of the kernel in use.

    The first use of any of this chooses: what the environment variable PYHASH_KERNEL names, else the best.

    Raises
    ------
    ValueError
        When PYHASH_KERNEL names none that can run here.
    ImportError
        When there is none: the C++ core is not compiled and Numba not installed.
    """
    return _name(module())


def use(name: str) -> Restore:
    """Choose the kernel for the whole process, at once.

    Parameters
    ----------
    name : str
        One of `kernels()`, or ``"auto"`` for the best.

    Returns
    -------
    Restore
        A context manager, if you want one: leaving it brings back the kernel that was in use before.

    Raises
    ------
    ValueError
        When no kernel of that name can run here; the message lists those that can.

    Examples
    --------
    >>> import pyhash
    >>> with pyhash.use("numba"):
    ...     pyhash.kernel()
    'numba'
    """

    def change() -> Restore:
        before = None if _module is None else _name(_module)
        _activate(name, "kernel")
        return Restore(before)

    return locked(_lock, change)


class Restore:
    """What `use` returns: as a context manager it brings back, on leaving, what was in use before `use`."""

    def __init__(self, before: str | None) -> None:
        self._before = before

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        locked(_lock, self._restore)

    def _restore(self) -> None:
        global _module
        if self._before is None:
            _module = None
        else:
            _activate(self._before, "kernel")

    def __repr__(self) -> str:
        return f"<pyhash kernel {kernel()}, before: {self._before or 'none chosen'}>"


def module() -> ModuleType:
    """Return the active compute module; raises as `kernel` does."""
    return _module or _choose()


def threads(threads: int | None = None) -> int:
    """Return how many threads to ask the compute module for.

    Parameters
    ----------
    threads : int, optional
        The most threads to use, at least 1. None is what the environment variable PYHASH_THREADS said at first use.

    Returns
    -------
    int
        Where neither says, the CPUs that a container's quota allows; 0 without one: as many as this process may run on.
    """
    global _default_threads
    if threads is not None:
        return min(check_int(threads, "threads", 1), _MAX_THREADS)
    if _default_threads is None:
        text = os.environ.get("PYHASH_THREADS", "").strip()
        if text and not (text.isascii() and text.isdigit() and int(text)):
            raise ValueError(f"PYHASH_THREADS must be an integer of at least 1, got {text!r}")
        quota = machine.cpus() if machine.limit_of_cpus() is not None else 0
        _default_threads = min(int(text or quota), _MAX_THREADS)
    return _default_threads


def why_no_native() -> str | None:
    """Return why the C++ core is not there, or None when it is."""
    return _native()[1]


def cpu_features() -> list[str]:
    """Return what CPU and operating system offer of what the C++ kernels ask for; empty without the C++ core."""
    native, _ = _native()
    return [] if native is None else list(native.cpu_features())


@functools.cache
def _native() -> tuple[Any, str | None]:
    """Return the C++ core, or why it cannot be had."""
    try:
        from .. import _native as module
    except ImportError as error:
        if importlib.util.find_spec("pyhash._native") is None:
            return None, _why_missing()
        return None, f"pyhash._native cannot be loaded: {error}"
    return module, None


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


def _name(module: Any) -> str:
    """Name the kernel in use in this module."""
    return str(module.get_kernel()) if hasattr(module, "get_kernel") else _NUMBA


def _choose() -> ModuleType:
    """Choose at first use."""
    return locked(_lock, lambda: _module or _activate(os.environ.get("PYHASH_KERNEL") or _AUTO, "PYHASH_KERNEL"))


def _activate(name: str, argument: str) -> ModuleType:
    """Make the kernel of this name the active one."""
    global _module
    names = kernels()
    if not names:
        raise ImportError(
            f"no search backend is available: {why_no_native()}, and Numba is not installed. "
            f"With Numba it works: pip install '{DISTRIBUTION}[numba]'"
        )
    if isinstance(name, str):
        name = name.lower()
    if name not in (_AUTO, *names):
        hint = f" (pip install '{DISTRIBUTION}[numba]' brings it)" if name == _NUMBA else ""
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, (_AUTO, *names)))}, got {name!r}{hint}")
    chosen = names[0] if name == _AUTO else name
    if chosen == _NUMBA:
        from . import numba_kernels as _numba

        if name == _AUTO:
            warnings.warn(
                f"pyhash searches with Numba, which is several times slower than compiled code: {why_no_native()}",
                RuntimeWarning,
                stacklevel=2,
            )
        _module = _numba
    else:
        native, _ = _native()
        native.set_kernel(chosen)
        _module = native
    logging.getLogger("pyhash").info("searching with the kernel %s", chosen)
    return _module
