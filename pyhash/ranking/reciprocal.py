"""k-reciprocal re-ranking: candidates in the order of how much their neighbours are those of the query."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import backend
from ..codes import check_int
from ..support import memory
from .cosines import Ids, Int8s, listed, nearest
from .neighbours import ask_for_candidates, check_places, check_same_width
from .rescoring import Rescored, ordered
from .vectors import Embeddings, as_quantized, as_rows

_Vector = tuple[Ids, NDArray[np.float64]]  # places, ascending, and their weights, which sum to 1


def k_reciprocal(
    queries: Embeddings,
    collection: Embeddings,
    ids: ArrayLike,
    *,
    k1: int = 20,
    k2: int = 6,
    share: float = 0.3,
    threads: int | None = None,
) -> Rescored:
    """Order candidates by k-reciprocal re-ranking, for collections of some ten thousand rows.

    The method of Zhong, Zheng, Cao and Li ("Re-ranking person re-identification with k-reciprocal encoding", 2017).
    Rows that are each among the `k1` nearest of the other make a set; sets of members that lie mostly within are added;
    each member counts ``exp(-squared distance)``; sets are averaged over the `k2` nearest. The similarity is
    ``share * cosine + (1 - share) * Jaccard similarity of the sets``. A query is a member of no set, so its answer does
    not depend on what else is asked. It takes the time of `neighbours` of all rows, and some ten milliseconds a query.

    Parameters
    ----------
    queries, collection : array_like of float, (q, dim) and (n, dim), or Quantized
        Rows of any length; (dim,) for one query.
    ids : array_like of int, (q, c) or (c,)
        The candidates: rows of the collection; -1 is none.
    k1, k2 : int
        At least 1.
    share : float
        Of the cosine, 0 to 1.
    threads : int, optional
        The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

    Returns
    -------
    Rescored
        In the order (similarity descending, cosine descending, id ascending).

    Raises
    ------
    ValueError, TypeError
        When an argument does not fit; it is named.
    """
    some, rows = as_quantized(as_rows(queries, "queries"), "queries"), as_quantized(collection, "collection")
    check_same_width(some.vectors, rows.vectors, "queries", "collection")
    k1, k2 = check_int(k1, "k1", 1), check_int(k2, "k2", 1)
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share!r}")
    candidates = as_rows(ids, "ids")
    places = check_places(candidates, "ids", (len(some.vectors), None), len(rows.vectors))
    n_threads = backend.threads(threads)
    n = len(rows.vectors)
    n_sets, largest = min(n, k2 * (places.size + len(some.vectors))), min(n, (k1 + 1) * (k1 // 2 + 2))
    memory.ask(
        16 * n * max(k1 + 1, k2) + 32 * n_sets * largest,
        "k1 or the collection must be smaller",
        "neighbours of %d rows and %d sets of them",
        n,
        n_sets,
    )
    ask_for_candidates(places)
    sets = _Sets(rows.vectors, k1, k2, n_threads)
    cosines = listed(some.vectors, rows.vectors, places, n_threads)
    near_similarities, near = nearest(some.vectors, rows.vectors, max(k1, k2), None, n_threads)
    mixed = np.full(places.shape, -np.inf)
    weights = np.zeros(len(rows.vectors))
    for j, query in enumerate(some.vectors):
        members, their = sets.of_query(query, near[j], near_similarities[j])
        weights[members] = their
        for i in np.flatnonzero(places[j] >= 0):
            others, others_weights = sets.of(int(places[j, i]))
            both = float(np.minimum(weights[others], others_weights).sum())
            mixed[j, i] = share * cosines[j, i] + (1 - share) * both / (2 - both)
        weights[members] = 0
    return ordered(places, np.ndim(ids) == 1, mixed, cosines)


class _Sets:
    """The sets of rows of a collection, found when they are asked for."""

    def __init__(self, rows: Int8s, k1: int, k2: int, threads: int) -> None:
        self._rows, self._k1, self._k2 = rows, k1, k2
        self._similarities, self._near = nearest(rows, rows, max(k1 + 1, k2), None, threads)  # themselves among them
        self._plain: dict[int, _Vector] = {}
        self._averaged: dict[int, _Vector] = {}

    def of(self, place: int) -> _Vector:
        """Return the set of a row."""
        if place not in self._averaged:
            near = self._near[place, : self._k2]
            self._averaged[place] = _mean([self._alone(i) for i in near[near >= 0].tolist()])
        return self._averaged[place]

    def of_query(self, query: NDArray[np.int8], near: Ids, similarities: NDArray[np.float64]) -> _Vector:
        """Return the set of a query, of which these are the nearest rows."""
        near, similarities = near[near >= 0], similarities[near >= 0]
        first, k1 = near[: self._k1], self._k1
        start = first[similarities[: self._k1] >= self._similarities[first, k1]]
        others = near[: self._k2 - 1].tolist()
        return _mean([self._weighted(query, self._expanded(start)), *map(self._alone, others)])

    def _alone(self, place: int) -> _Vector:
        if place not in self._plain:
            members = self._expanded(self._reciprocal(place, self._k1))
            self._plain[place] = self._weighted(self._rows[place], members)
        return self._plain[place]

    def _reciprocal(self, place: int, k: int) -> Ids:
        near = self._near[place, : k + 1]
        near = near[near >= 0]
        members: Ids = near[(self._near[near, : k + 1] == place).any(axis=1)]
        return members

    def _expanded(self, start: Ids) -> Ids:
        sets = [start]
        for member in start.tolist():
            half = self._reciprocal(member, (self._k1 + 1) // 2)
            if 3 * np.isin(half, start).sum() >= 2 * len(half):
                sets.append(half)
        return np.unique(np.concatenate(sets))

    def _weighted(self, row: NDArray[np.int8], members: Ids) -> _Vector:
        cosines = listed(row[None], self._rows, members[None], 1)[0]
        weights = np.exp(2 * cosines - 2)
        return members, weights / weights.sum() if len(members) else weights


def _mean(vectors: list[_Vector]) -> _Vector:
    """Return the average of sets, of those that are not empty."""
    members = [places for places, _ in vectors if len(places)]
    if not members:
        return np.empty(0, dtype=np.int64), np.empty(0)
    places, which = np.unique(np.concatenate(members), return_inverse=True)
    weights = np.bincount(which, np.concatenate([weights for _, weights in vectors]))
    return places, weights / len(members)
