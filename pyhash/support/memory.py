"""Memory, asked for before it is taken: too little is an error that says what is needed, where a system would kill."""

from __future__ import annotations

import math
import time

from . import machine

__all__ = ["ask", "room", "size"]

_UNASKED = 1 << 24  # bytes: so much is there, and to ask takes longer than most calls that need no more
_RECENT = 0.25  # seconds: to ask takes a millisecond, as long as many searches

_last = (-math.inf, 0)  # when `room` asked the machine, and its answer


def ask(n_bytes: int, remedy: str, what: str, *values: object) -> None:
    """Raise MemoryError where so many bytes cannot be had.

    Parameters
    ----------
    n_bytes : int
        What a call is about to take, its answer and what it needs meanwhile. A few are given unasked.
    remedy : str
        What must be otherwise, such as ``"k must be smaller"``.
    what : str
        What needs the memory; with `values` in its places, as in logging, so that they cost nothing where all is well.
    """
    if n_bytes <= _UNASKED:
        return
    available = machine.available_memory()
    if n_bytes > available:
        raise MemoryError(f"{remedy}: {what % values} need {size(n_bytes)}, {size(available)} are available")


def room(most: int) -> int | None:
    """Return how many bytes a call may take that finds out as it goes, and takes `most` at the very most.

    None where those are given unasked. It is what was available a moment ago, so that it may be asked at every call.
    """
    global _last
    if most <= _UNASKED:
        return None
    asked, available = _last
    now = time.monotonic()
    if now - asked > _RECENT:
        available = machine.available_memory()
        _last = now, available
    return available


def size(n_bytes: int) -> str:
    """Say how much memory that is, as people read it."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"
