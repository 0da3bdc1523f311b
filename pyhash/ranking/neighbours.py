"""The nearest rows of each row, by the cosine of int8 embeddings, exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import backend
from ..codes import as_array, check_int
from ..support import memory
from .cosines import listed, nearest
from .vectors import Embeddings, as_quantized

Ids = NDArray[np.int64]


class Neighbours(NamedTuple):
    """The nearest rows of each query, and how much each counts in an average; what `neighbours` returns.

    Weights may be changed before they are averaged: 0 for what is a copy, or another part of the same image.
    """

    ids: NDArray[np.int64]
    """``(n, k)``: places in the collection, the nearest first; -1 where there are fewer."""
    weights: NDArray[np.float32]
    """``(n, k)``: similarity to the power asked for; 0 where that is negative, or where there is none."""


def neighbours(
    queries: Embeddings,
    collection: Embeddings,
    k: int = 10,
    *,
    candidates: ArrayLike | None = None,
    power: float = 3.0,
    without: ArrayLike | None = None,
    threads: int | None = None,
) -> Neighbours:
    """Find the nearest rows of a collection by cosine similarity.

    Parameters
    ----------
    queries, collection : array_like of float, (q, dim) and (n, dim), or Quantized
        Rows of any length. Floats are compared as `quantize` rounds them.
    k : int
        How many neighbours, at least 1.
    candidates : array_like of int, (q, c), optional
        For each query the places in the collection to choose from, such as the nearest by code; -1 is none, and one
        named twice counts once. By default all.
    power : float
        A neighbour's weight is its similarity to this power, at least 0; negative similarities weigh nothing.
    without : array_like of int, (q,), optional
        For each query a place to leave out, its own; -1 for none.
    threads : int, optional
        The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

    Returns
    -------
    Neighbours
        In the order (similarity descending, place ascending): the same on every kernel, thread count and batch.

    Raises
    ------
    ValueError, TypeError
        When an argument does not fit; it is named.
    """
    some, all_rows = as_quantized(queries, "queries"), as_quantized(collection, "collection")
    check_same_width(some.vectors, all_rows.vectors, "queries", "collection")
    n = len(all_rows.vectors)
    k = check_int(k, "k", 1)
    if not power >= 0:
        raise ValueError(f"power must be at least 0, got {power!r}")
    left_out = None if without is None else check_places(without, "without", (len(some.vectors),), n)
    n_threads = backend.threads(threads)
    # Similarities, places and weights, and what those are made of.
    memory.ask(
        40 * k * len(some.vectors), "k must be smaller", "%d neighbours of each of %d rows", k, len(some.vectors)
    )
    if candidates is None:
        similarities, ids = nearest(some.vectors, all_rows.vectors, k, left_out, n_threads)
    else:
        places = check_places(candidates, "candidates", (len(some.vectors), None), n)
        ask_for_candidates(places)
        places = np.sort(places, axis=1)
        places[:, 1:][places[:, 1:] == places[:, :-1]] = -1
        if left_out is not None:
            places[places == left_out[:, None]] = -1
        ids = np.full((len(places), k), -1, dtype=np.int64)
        similarities = np.full(ids.shape, -np.inf)
        found = listed(some.vectors, all_rows.vectors, places, n_threads)
        # Places ascend but for those that are none, which come last: a stable sort leaves ties in order.
        order = np.argsort(-found, axis=1, kind="stable")[:, :k]
        ids[:, : order.shape[1]] = np.take_along_axis(places, order, axis=1)
        similarities[:, : order.shape[1]] = np.take_along_axis(found, order, axis=1)
    weights = (np.maximum(similarities, 0) ** power).astype(np.float32)
    weights[similarities <= 0] = 0
    return Neighbours(ids, weights)


def ask_for_candidates(places: Ids, cosines: int = 1) -> None:
    """Ask for the memory in which candidates are put in order, by so many cosines."""
    n_bytes = (72 + 8 * cosines) * places.size
    memory.ask(
        n_bytes, "candidates must be fewer at a time", "%d candidates of each of %d queries", *places.shape[::-1]
    )


def check_same_width(a: NDArray[np.generic], b: NDArray[np.generic], a_name: str, b_name: str) -> None:
    """Refuse embeddings of different width."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a_name} must be as wide as {b_name}, {b.shape[1]} numbers a row, got {a.shape[1]}")


def check_places(places: ArrayLike, name: str, shape: tuple[int | None, ...], n: int) -> Ids:
    """Return places in a collection of n rows, -1 for none, as int64; a None in `shape` is any length."""
    array = as_array(places, name)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must be an array of integers, got {array.dtype}")
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")
    if array.size and (array.min() < -1 or array.max() >= n):
        raise ValueError(f"{name} must be -1 or places from 0 to {n - 1}, got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, dtype=np.int64)
