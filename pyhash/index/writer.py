"""The lock that the changes of one index take in turn; readers take none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ..support import locked

_T = TypeVar("_T")

_forks = 0  # that led to this process


class Writer:
    """A lock that is free in a forked child, and that no interrupt leaves held.

    A thread that was writing when the process forked does not live on in the child, so each process has a lock of its
    own, by the number of forks that led to it.
    """

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: dict[int, Any] = {}

    def _lock(self) -> Any:
        lock = self._locks.get(_forks)
        return self._locks.setdefault(_forks, threading.RLock()) if lock is None else lock

    def alone(self, change: Callable[[], _T]) -> _T:
        """Call a function while nobody else changes the index; return what it returns."""
        lock = self._lock()
        if lock._is_owned():  # a signal handler, or a finalizer, that came in the middle of a change
            raise RuntimeError("cannot change what this thread is changing")
        return locked(lock, change)

    def busy_here(self) -> bool:
        """Whether this thread is in the middle of a change."""
        owned: bool = self._lock()._is_owned()
        return owned


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)
