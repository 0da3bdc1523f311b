"""The threads that NumPy's linear algebra runs on."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

__all__ = ["one_blas_thread"]


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Do linear algebra on one thread, where the package threadpoolctl is installed; else nothing changes.

    A decomposition of a small matrix is many short steps, after each of which all threads wait for the last. On a
    machine whose CPUs are busy, with decoding for example, that took 40 times as long on two threads as on one.
    """
    try:
        limits = importlib.import_module("threadpoolctl").threadpool_limits
    except ImportError:
        yield
        return
    with limits(1, user_api="blas"):
        yield
