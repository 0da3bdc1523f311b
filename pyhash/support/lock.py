"""Locks that are sound when a signal handler raises anywhere, and in a forked child.

``with lock:`` alone is not: from Python 3.14 on an interrupt (Ctrl-C) can come between the taking of a lock and the
block that gives it back. So whoever takes a lock gives it back in an ``except`` of its own too, until the lock is held
as often as before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")


def locked(lock: Any, function: Callable[[], _T]) -> _T:
    """Call a function while a re-entrant lock is held; return what it returns."""
    before = held([lock])
    try:
        with lock:
            return function()
    except BaseException:
        release([lock], before)
        raise


def held(locks: Iterable[Any]) -> list[int]:
    """Return how often this thread holds each lock."""
    return [lock._recursion_count() for lock in locks]


def release(locks: Sequence[Any], before: Sequence[int]) -> None:
    """Release locks until they are held as often as before."""
    for lock, count in zip(locks, before, strict=True):
        while lock._recursion_count() > count:
            lock.release()


_through_forks: list[Any] = []
_taken: list[Any] = []  # for the fork under way


def hold_through_fork(lock: Any) -> None:
    """Have a fork wait for this re-entrant lock, so that a child never finds it held by a thread that it lacks."""
    _through_forks.append(lock)


def _before_fork() -> None:
    for lock in list(_through_forks):
        lock.acquire()
        _taken.append(lock)


def _after_fork() -> None:
    while _taken:
        _taken.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
