"""Distances between two small sets of codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import check_rows, to_words
from ..support import memory
from . import choose


def hamming(a: ArrayLike, b: ArrayLike, threads: int | None = None) -> NDArray[np.int32]:
    """Count the bits in which codes differ, every row of `a` with every row of `b`.

    Parameters
    ----------
    a : array_like of uint8, (m, n_bytes) or (n_bytes,)
        Packed codes.
    b : array_like of uint8, (n, n_bytes) or (n_bytes,)
        Packed codes of the same length.
    threads : int, optional
        The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

    Returns
    -------
    ndarray of int32, (m, n)
        Distances. A 1-D argument takes its dimension away: (n,), (m,), or for two codes one int32 number.

    Raises
    ------
    ValueError, TypeError
        When a or b are not codes, or not of the same length.
    MemoryError
        When there are more distances than fit in memory.
    """
    left, right = check_rows(a, "a"), check_rows(b, "b")
    if left.shape[-1] != right.shape[-1]:
        raise ValueError(
            f"a and b must have the same number of bytes a code, got {left.shape[-1]} and {right.shape[-1]}"
        )
    n_threads = choose.threads(threads)
    words = to_words(np.atleast_2d(left)), to_words(np.atleast_2d(right))
    m, n = len(words[0]), len(words[1])
    memory.ask(
        4 * m * n + words[1].nbytes,  # which is laid out anew
        "a and b must be smaller (pyhash.Index keeps only the near ones)",
        "%d x %d distances",
        m,
        n,
    )
    distances = choose.active().hamming(*words, n_threads)
    return distances[0 if left.ndim == 1 else slice(None), 0 if right.ndim == 1 else slice(None)]
