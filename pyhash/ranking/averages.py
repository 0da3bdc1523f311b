"""Neighbourhoods: embeddings averaged with those of their nearest.

Database-side augmentation (Turcot and Lowe, "Better matching with fewer features", 2009) with the weights of alpha
query expansion (Radenovic, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019). What
an image shares with those like it grows, what is its own alone shrinks: distances between averages say *the same kind*,
no longer *the same image*, so duplicates are never looked for among them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .. import backend
from ..codes import check_int, check_rows
from ..index import Index
from ..support import machine, memory
from .neighbours import Neighbours, check_places, neighbours
from .vectors import Directions, Embeddings, Quantized, as_floats, as_quantized, lengths, taken

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

_BLOCK_ROWS = 512  # averaged at once: they and one neighbour of each fit in a core's cache
_QUERIES = 4096  # searched at once


class _Rows(Protocol):
    """Rows that can be taken a few at a time."""

    def take(self, places: Ids | slice) -> Floats:
        """Return the rows in these places."""


class _Known:
    def __init__(self, rows: Floats) -> None:
        self._rows = rows

    def take(self, places: Ids | slice) -> Floats:
        return taken(self._rows, places)


def average(
    vectors: Embeddings,
    neighbours: Neighbours,
    *,
    collection: Embeddings | None = None,
    among: Neighbours | None = None,
    rounds: int = 2,
    threads: int | None = None,
) -> Floats:
    """Average embeddings with those of their neighbours: ``unit(row + sum of weight * neighbour)``, so many rounds.

    A second round averages the averages of the first, with the same neighbours and weights. What comes out for a row
    does not depend on what other rows are averaged in the same call.

    Parameters
    ----------
    vectors : array_like of float, (n, dim), or Quantized
        Rows, taken as of length 1 (zeros stay zeros).
    neighbours : Neighbours
        Of each row; weights may have been set to 0 for those that should not count.
    collection : array_like of float, (m, dim), or Quantized, optional
        What the neighbours are places in. By default they are places in `vectors`: all rows at once.
    among : Neighbours, optional
        The neighbours of the collection's own rows; needed with `collection` from the second round on.
    rounds : int
        At least 0.
    threads : int, optional
        The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

    Returns
    -------
    ndarray of float32, (n, dim)
        Of length 1.

    Raises
    ------
    ValueError, TypeError
        When an argument does not fit; it is named.
    """
    rounds = check_int(rounds, "rounds", 0)
    n_threads = backend.threads(threads) or machine.cpus()
    rows = Directions(vectors, "vectors")
    n = rows.shape[0]
    if collection is None:
        if among is not None:
            raise ValueError("among is for a collection, and none was given")
        near = _check(neighbours, "neighbours", n, n)
        rows.measure()
        if rounds == 0:
            return rows.take(slice(None))
        averages = _mixed(rows, rows, near, n_threads)
        for _ in range(rounds - 1):
            averages = _mixed(_Known(averages), _Known(averages), near, n_threads)
        return averages
    pool = Directions(collection, "collection")
    if pool.shape[1] != rows.shape[1]:
        raise ValueError(f"vectors must be as wide as collection, {pool.shape[1]} numbers, got {rows.shape[1]}")
    near = _check(neighbours, "neighbours", n, pool.shape[0])
    if rounds > 1 and among is None:
        raise ValueError("among must be the neighbours of the collection where rounds is more than 1, got None")
    of_pool = None if among is None else _check(among, "among", pool.shape[0], pool.shape[0])
    averages = rows.take(slice(None))
    places, local = _compact(near.ids)
    for done in range(rounds):
        below = _after(pool, of_pool, places, done, n_threads)
        averages = _mixed(_Known(averages), _Known(below), Neighbours(local, near.weights), n_threads)
    return averages


def neighbourhoods(
    embeddings: Embeddings,
    k: int = 10,
    rounds: int = 2,
    *,
    codes: NDArray[np.uint8] | Index | None = None,
    candidates: int = 50,
    power: float = 3.0,
    threads: int | None = None,
) -> Floats:
    """Average each embedding of a collection with its nearest: what then is near is of the same kind.

    Subtract the collection's mean from the embeddings first: what all share says nothing.

    Parameters
    ----------
    embeddings : array_like of float, (n, dim), or Quantized
        Taken as of length 1.
    k : int
        How many neighbours each is averaged with, by the cosine, weighted by its `power`.
    rounds : int
        Averages of averages, with the same neighbours.
    codes : uint8 array, (n, n_bytes), or Index, optional
        Choose the neighbours among the `candidates` nearest by code: an Index holds them with ids 0 to n - 1. By
        default among all rows, exactly, which takes 10,000 times as long for 10,000 times the rows.
    candidates : int
        How many are found by code for each row.
    power : float
        A neighbour's weight is its similarity to this power.
    threads : int, optional
        The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

    Returns
    -------
    ndarray of float32, (n, dim)
        Of length 1.

    See Also
    --------
    pyhash.ranking.neighbours, pyhash.ranking.average : The two steps, for queries and for changed weights.

    Examples
    --------
    >>> import numpy as np, pyhash
    >>> pyhash.neighbourhoods(np.array([[0.8, 0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]), k=1).round(2)
    array([[0.71, 0.71, 0.  ],
           [0.71, 0.71, 0.  ],
           [0.  , 0.  , 1.  ]], dtype=float32)
    """
    rows = embeddings if isinstance(embeddings, Quantized) else as_floats(embeddings, "embeddings")
    quantized = as_quantized(rows, "embeddings")
    own = np.arange(len(quantized.vectors))
    if codes is None:
        found = neighbours(quantized, quantized, k, power=power, without=own, threads=threads)
    else:
        index, candidates = _by_place(codes, len(own)), check_int(candidates, "candidates", 1)
        parts = []
        for first in range(0, max(1, len(own)), _QUERIES):  # one at least, so that k and power are always checked
            some = own[first : first + _QUERIES]
            near = index.search(index.codes(some), candidates + 1, threads=threads).ids
            of_some = Quantized(quantized.vectors[some], quantized.norms[some])
            parts.append(neighbours(of_some, quantized, k, candidates=near, power=power, without=some, threads=threads))
        found = Neighbours(*map(np.concatenate, zip(*parts, strict=True)))
    return average(rows, found, rounds=rounds, threads=threads)


def _by_place(codes: NDArray[np.uint8] | Index, n: int) -> Index:
    """Return an index of codes whose ids are places in the embeddings."""
    if isinstance(codes, Index):
        index = codes
    else:
        rows = check_rows(codes, "codes")
        index = Index(8 * rows.shape[-1])
        index.add(rows)
    if len(index) != n or not np.array_equal(index.ids, np.arange(n)):
        raise ValueError(f"codes must be one for each of the {n} embeddings, with ids from 0 on, got {len(index)}")
    return index


def _after(pool: Directions, of_pool: Neighbours | None, places: Ids, rounds: int, threads: int) -> Floats:
    """Return what these rows of the collection are after so many rounds, computing no more than that needs."""
    if rounds == 0 or of_pool is None:
        n, width = len(places), pool.shape[1]
        memory.ask(8 * n * width, "vectors must have fewer rows", "%d neighbours of %d numbers each", n, width)
        return pool.take(places)
    needed = np.union1d(places, of_pool.ids[places])
    needed = needed[needed >= 0]
    below = _Known(_after(pool, of_pool, needed, rounds - 1, threads))
    ids = np.where(of_pool.ids[places] < 0, -1, np.searchsorted(needed, of_pool.ids[places]))
    own = _Known(below.take(np.searchsorted(needed, places)))
    return _mixed(own, below, Neighbours(ids, of_pool.weights[places]), threads)


def _compact(ids: Ids) -> tuple[Ids, Ids]:
    """Return the places that ids name, once each, and the ids as numbers of those."""
    places = np.unique(ids)
    places = places[places >= 0]
    return places, np.where(ids < 0, -1, np.searchsorted(places, ids))


def _mixed(own: _Rows, pool: _Rows, near: Neighbours, threads: int) -> Floats:
    """Return ``unit(own + sum of weight * pool[id])``, added in the order of the neighbours."""
    n, k = near.ids.shape
    width = own.take(slice(0, 0)).shape[1]
    memory.ask(4 * n * (width + 3 * k), "vectors must have fewer rows", "averages of %d rows of %d numbers", n, width)
    mixed = np.empty((n, width), dtype=np.float32)
    weights = np.where(near.ids < 0, np.float32(0), near.weights)
    ids = np.maximum(near.ids, 0)

    def mix(first: int) -> None:
        part = slice(first, min(first + _BLOCK_ROWS, n))
        sums = own.take(part).copy()
        for j in range(k):
            if weights[part, j].any():
                sums += pool.take(ids[part, j]) * weights[part, j, None]
        of_rows = lengths(sums)[:, None]
        mixed[part] = sums / np.where(of_rows == 0, 1, of_rows)

    firsts = range(0, n, _BLOCK_ROWS)
    if threads == 1 or len(firsts) <= 1:
        for first in firsts:
            mix(first)
    else:
        with ThreadPoolExecutor(min(threads, len(firsts))) as workers:
            list(workers.map(mix, firsts))
    return mixed


def _check(near: Neighbours, name: str, n: int, n_collection: int) -> Neighbours:
    ids = check_places(near.ids, f"{name}.ids", (n, None), n_collection)
    weights = as_floats(near.weights, f"{name}.weights") if ids.size else np.zeros(ids.shape, np.float32)
    if weights.shape != ids.shape:
        raise ValueError(f"{name}.weights must have the shape of its ids, {ids.shape}, got {weights.shape}")
    return Neighbours(ids, weights)
