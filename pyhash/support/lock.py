"""A readers-writer lock that is sound when a signal handler raises anywhere, and in a forked child.

``with lock:`` alone is not: from Python 3.14 on an interrupt (Ctrl-C) can come between the taking of a lock and the
block that gives it back. So whoever takes a lock gives it back in an ``except`` of its own too, until the lock is held
as often as before.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakSet

_P = ParamSpec("_P")
_S = TypeVar("_S")
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
    """Release locks until they are held as often as before; those that are not in `before` were not held."""
    for number, lock in enumerate(locks):
        while lock._recursion_count() > (before[number] if number < len(before) else 0):
            lock.release()


class ReadWriteLock:
    """Many readers or one writer; a waiting writer goes before readers that come later.

    Every thread that reads has a lock of its own, and a writer holds them all.

    A thread may read while it reads. A fork waits for running writers, and the child starts with every lock free.
    """

    __slots__ = ("__weakref__", "_gate", "_own", "_readers", "_waiting")

    def __init__(self) -> None:
        self._free()
        locked(_registry, lambda: _locks.add(self))

    def _free(self) -> None:
        self._gate: Any = threading.RLock()  # held by a writer for as long as it waits and writes
        self._own = threading.local()
        self._readers: WeakSet[Any] = WeakSet()  # the locks of all threads that read; one dies with its thread
        self._waiting = False  # whether readers that come now should let a writer go first

    def reading(self) -> Any:
        """Return what this thread holds while it reads: ``with lock.reading(): ...``, in a method that `reads`."""
        try:
            own = self._own.lock
        except AttributeError:
            own = threading.RLock()
            with self._gate:  # whoever writes now does not hold this one
                self._readers.add(own)
                self._own.lock = own
        if self._gate._is_owned():
            raise RuntimeError("cannot read what this thread is changing")
        if self._waiting and not own._is_owned():
            with self._gate:
                pass
        return own

    def held(self) -> tuple[int, int]:
        """Return how often this thread holds its locks, for `give_back`."""
        own = getattr(self._own, "lock", None)
        return self._gate._recursion_count(), 0 if own is None else own._recursion_count()

    def give_back(self, before: tuple[int, int]) -> None:
        """Release this thread's locks until it holds them as often as `held` said."""
        release([self._gate, *([self._own.lock] if hasattr(self._own, "lock") else [])], before)

    def reads_here(self) -> bool:
        """Whether this thread is reading."""
        return hasattr(self._own, "lock") and self._own.lock._is_owned()

    def writing(self, change: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function while nobody reads and nobody else writes; return what it returns."""
        if self._gate._is_owned():
            raise RuntimeError("cannot change what this thread is changing")
        if self.reads_here():
            raise RuntimeError("cannot change what this thread is reading")

        def alone() -> _T:
            self._waiting = True
            try:
                return _holding(list(self._readers), lambda: change(*args, **kwargs))
            finally:
                self._waiting = False  # left set by an interrupt right here, it costs time only

        return locked(self._gate, alone)


def _holding(locks: list[Any], function: Callable[[], _T]) -> _T:
    """Call a function while all these locks are held."""
    if not locks:
        return function()
    a, b, c, d, *rest = locks + [threading.RLock() for _ in range(-len(locks) % 4)]  # four a call: recursion has limits
    try:
        with a, b, c, d:
            return _holding(rest, function)
    except BaseException:
        release([a, b, c, d], [])
        raise


def reads(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
    """Guard a method that reads under the `ReadWriteLock` of its object, the attribute ``_lock``."""

    @functools.wraps(method)
    def guarded(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        lock: ReadWriteLock = self._lock  # type: ignore[attr-defined]
        before = lock.held()
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            lock.give_back(before)
            raise

    return guarded


_registry = threading.RLock()  # protects what follows; held through a fork
_locks: WeakSet[ReadWriteLock] = WeakSet()
_others: list[Any] = []
_held: list[Any] = []  # what the fork under way has taken


def hold_through_fork(lock: Any) -> None:
    """Have a fork wait for this lock too: a re-entrant one, that readers may need to finish."""
    _others.append(lock)


def _before_fork() -> None:
    _registry.acquire()
    # No change is half done in the memory that the child gets. The others come last, for a writer that was waited for
    # may have waited for a reader that needs them.
    for lock in [*(lock._gate for lock in list(_locks)), *_others]:
        lock.acquire()
        _held.append(lock)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()
    _registry.release()


def _after_fork_in_child() -> None:
    global _registry
    while _held:
        _held.pop().release()
    _registry = threading.RLock()
    for lock in list(_locks):
        lock._free()  # the readers there were live on in the parent only


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
