"""A readers-writer lock that is sound in a forked child."""

from __future__ import annotations

import os
import threading
from typing import Any
from weakref import WeakSet


class ReadWriteLock:
    """Many readers or one writer; a waiting writer goes before readers that come later.

    Not re-entrant. A fork waits for running writers, and the child starts with every lock free.
    """

    __slots__ = ("__weakref__", "_count", "_gate", "_readers", "_waiting", "_wake")

    def __init__(self) -> None:
        self._free()
        with _registry:
            _locks.add(self)

    def _free(self) -> None:
        self._gate = threading.Lock()  # held by a writer for as long as it waits and writes
        self._count = threading.Lock()  # protects what follows
        self._readers = 0
        self._waiting = False  # whether a writer waits for the last reader to release _wake
        self._wake = threading.Lock()
        self._wake.acquire()

    def acquire_read(self) -> None:
        """Begin reading; waits while somebody writes or waits to write."""
        with self._gate, self._count:
            self._readers += 1

    def release_read(self) -> None:
        """End reading."""
        with self._count:
            self._readers -= 1
            if self._waiting and not self._readers:
                self._waiting = False
                self._wake.release()

    def __enter__(self) -> None:
        """Begin writing: waits until nobody reads or writes."""
        self._gate.acquire()
        try:
            with self._count:
                self._waiting = wait = self._readers > 0
            if wait:
                self._wake.acquire()
        except BaseException:  # interrupted while waiting
            with self._count:
                if not self._waiting:  # the last reader has released it, or will not
                    self._wake.acquire(blocking=False)
                self._waiting = False
            self._gate.release()
            raise

    def __exit__(self, *exc: object) -> None:
        """End writing."""
        self._gate.release()


_registry = threading.RLock()  # protects what follows; held through a fork
_locks: WeakSet[ReadWriteLock] = WeakSet()
_held: list[ReadWriteLock] = []
_others: list[Any] = []


def hold_through_fork(lock: Any) -> None:
    """Have a fork wait for this lock too: a re-entrant one, that readers may need to finish."""
    _others.append(lock)


def _before_fork() -> None:
    _registry.acquire()
    for lock in list(_locks):
        lock._gate.acquire()  # no change is half done in the memory the child gets
        _held.append(lock)
    for other in _others:  # last, for a writer that was waited for may have waited for a reader that needs it
        other.acquire()


def _after_fork_in_parent() -> None:
    for other in _others:
        other.release()
    while _held:
        _held.pop()._gate.release()
    _registry.release()


def _after_fork_in_child() -> None:
    global _registry
    for other in _others:
        other.release()
    _registry = threading.RLock()
    _held.clear()
    for lock in list(_locks):
        lock._free()  # the readers counted here live on in the parent only


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
