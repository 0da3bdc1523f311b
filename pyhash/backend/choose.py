"""Which kernel is active, and how many threads it is asked to use. Nothing else knows: a kernel is handed down.

There are those of the C++ core (the best that the CPU can run is taken) and Numba's. All keep `contract.Kernel`, so
answers never differ.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import warnings

from ..codes import check_int, use_packing
from ..support import DISTRIBUTION, hold_through_fork, locked, machine
from . import native
from .contract import Kernel

_NUMBA = "numba"
_AUTO = "auto"
_MAX_THREADS = 1024

_lock = threading.RLock()
hold_through_fork(_lock)
_active: Kernel | None = None  # the active one; None until the first use
_default_threads: int | None = None  # from PYHASH_THREADS; None until the first use


def kernels() -> list[str]:
    """Names of the kernels that can run here, best first; "numba", where installed, comes last.

    Returns
    -------
    list of str
        Such as ``["avx512", "avx2", "scalar", "numba"]``; each is a name for `use` and PYHASH_KERNEL.
    """
    names = [kernel.name for kernel in native.kernels()]
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
    return active().name


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
    >>> with pyhash.use("numba") as name:
    ...     name
    'numba'
    """

    def change() -> Restore:
        before = None if _active is None else _active.name
        _activate(name, "kernel")
        return Restore(before)

    return locked(_lock, change)


class Restore:
    """What `use` returns: as a context manager it brings back, on leaving, what was in use before `use`."""

    def __init__(self, before: str | None) -> None:
        self._before = before

    def __enter__(self) -> str:
        return kernel()

    def __exit__(self, *exc: object) -> None:
        locked(_lock, self._restore)

    def _restore(self) -> None:
        global _active
        if self._before is None:
            _active = None
            use_packing(_AUTO)
        else:
            _activate(self._before, "kernel")

    def __repr__(self) -> str:
        return f"<pyhash kernel {kernel()}, before: {self._before or 'none chosen'}>"


def active() -> Kernel:
    """Return the kernel in use; raises as `kernel` does. A call takes it once and keeps it to its end."""
    return _active if _active is not None else _choose()


def threads(threads: int | None = None) -> int:
    """Return how many threads to ask a kernel for.

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


def _choose() -> Kernel:
    """Choose at first use."""
    return locked(_lock, lambda: _active or _activate(os.environ.get("PYHASH_KERNEL") or _AUTO, "PYHASH_KERNEL"))


def _activate(name: str, argument: str) -> Kernel:
    """Make the kernel of this name the active one."""
    global _active
    names = kernels()
    if not names:
        raise ImportError(
            f"no search backend is available: {native.why_no_native()}, and Numba is not installed. "
            f"With Numba it works: pip install '{DISTRIBUTION}[numba]'"
        )
    if isinstance(name, str):
        name = name.lower()
    if name not in (_AUTO, *names):
        hint = f" (pip install '{DISTRIBUTION}[numba]' brings it)" if name == _NUMBA else ""
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, (_AUTO, *names)))}, got {name!r}{hint}")
    chosen = names[0] if name == _AUTO else name
    if chosen == _NUMBA:
        from .numba_search import KERNEL

        if name == _AUTO:
            warnings.warn(
                f"pyhash searches with Numba, which is several times slower than compiled code: "
                f"{native.why_no_native()}",
                RuntimeWarning,
                stacklevel=2,
            )
        _active = KERNEL
    else:
        _active = next(kernel for kernel in native.kernels() if kernel.name == chosen)
    use_packing(chosen)
    logging.getLogger("pyhash").info("searching with the kernel %s", chosen)
    return _active
