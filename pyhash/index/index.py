"""The index: codes in, nearest ids out, exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import backend
from ..backend import MAX_DISTANCE, Kernel, Metric
from ..backend import metric as measure
from ..codes import check_codes, check_int
from ..errors import CorruptIndexError
from .checks import check_lists, check_room, check_where, room_of_groups, room_of_pairs, room_within, too_many
from .holder import Holder
from .joins import in_blocks
from .results import Hits, Pairs, Ranges
from .search import cascaded, only
from .snapshot import Snapshot, Target

__all__ = ["CorruptIndexError", "Index"]

_MAX_K = 2**31 - 1
_LARGE_ANSWER = 1 << 14  # entries: from here on, think of whether they fit in memory
_MAX_METRICS = 64  # kept: a service may weigh every query in its own way


class Index(Holder):
    """Exact Hamming search over binary codes.

    Parameters
    ----------
    bits : int, Levels or mapping of str to int
        Length of a code in bits, 1 to 65536; or its levels, named runs of bits in order, each a whole number of bytes,
        for example ``{"coarse": 16, "fine": 48}``.
    levels : Levels, mapping of str to int, or int
        The same by this name; give one of the two.
    structure : {"auto", "flat", "ring"}
        How codes are searched; the answers never differ. A flat search passes over all codes. A ring clusters them and
        passes over those that can be near the query. ``"auto"`` builds a ring when there are many codes, enough
        searches to pay for building it, and sampled codes show that it makes queries cheaper; `optimize` builds it at
        once.

    Notes
    -----
    Every answer is ordered by (distance, id): ties go to the smaller id, whatever the kernel, the number of threads
    and the batch. Searches take no lock and run without the GIL, beside one another and beside changes; `add`,
    `update` and `remove` take turns and are seen whole or not at all, also where an exception, Ctrl-C or a fork comes
    in between. A search sees the index as it is when it begins. An update of many codes holds the old and the new ones
    for as long as it takes.

    Examples
    --------
    >>> import numpy as np, pyhash
    >>> index = pyhash.Index(bits=16)
    >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8))
    array([0, 1, 2])
    >>> index.search(np.array([0, 0], dtype=np.uint8), k=2)
    Hits(distances=array([0, 1], dtype=int32), ids=array([0, 2]))
    """

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        level: str | None = None,
        weights: Mapping[str, int] | None = None,
        where: ArrayLike | None = None,
        cascade: tuple[str, int] | None = None,
        threads: int | None = None,
    ) -> Hits:
        """Find the k nearest codes of each query.

        Parameters
        ----------
        queries : array_like of uint8, (q, n_bytes) or (n_bytes,)
            Packed codes of the same length as those stored.
        k : int
            How many to find, at least 1.
        level : str, optional
            Measure this level only.
        weights : mapping of str to int, optional
            Measure the sum of weight * distance over these levels; small non-negative integers.
        where : array_like, optional
            Search only these: ids (those not in the index are passed over), or a bool mask aligned with `ids`.
        cascade : (str, int), optional
            Coarse to fine: take this many of the nearest at this level, then rank them by the whole code (or by
            `level` or `weights`).
        threads : int, optional
            The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

        Returns
        -------
        distances : ndarray of int32, (q, k), or (k,) for a single query
        ids : ndarray of int64, likewise
            In (distance, id) order. Where fewer than k are found: distance 2**31 - 1 and id -1.

        Raises
        ------
        MemoryError
            When there are more answers than fit in memory.
        """
        rows = check_codes(queries, self._bits, "queries")
        k = check_int(k, "k", 1, _MAX_K)
        n_threads = backend.threads(threads)
        kernel = backend.active()
        n_queries = len(rows) if rows.ndim == 2 else 1
        if k * n_queries >= _LARGE_ANSWER:
            check_room(k, n_queries, len(self), n_threads)
        metric = None if level is None and weights is None else self._metric(kernel, level, weights)
        if cascade is not None:
            coarse, n_candidates = self._check_cascade(kernel, cascade)
            target = self._target(kernel, self._now, where, n_queries)
            some = np.atleast_2d(rows)
            distances, ids = cascaded(kernel, target, some, coarse, n_candidates, metric, k, n_threads)
            return Hits(distances, ids) if rows.ndim == 2 else Hits(distances[0], ids[0])
        if where is not None:
            target = self._target(kernel, self._now, where, n_queries)
        elif metric is not None:
            target = self._now.target(kernel)
        else:
            target = self._current(kernel, n_queries, n_threads).target(kernel)
        return Hits(*kernel.topk(target.own, rows, metric, k, n_threads))

    def range_search(
        self,
        queries: ArrayLike,
        radius: int,
        *,
        level: str | None = None,
        weights: Mapping[str, int] | None = None,
        where: ArrayLike | None = None,
        threads: int | None = None,
    ) -> Ranges:
        """Find all codes within a distance of each query.

        Ask thousands of queries with a small radius at once: they are then joined with the codes as `pairs` does it.

        Parameters
        ----------
        queries : array_like of uint8, (q, n_bytes) or (n_bytes,)
            Packed codes of the same length as those stored.
        radius : int
            The largest distance that is near enough, at least 0.
        level, weights, where, threads
            As in `search`.

        Returns
        -------
        offsets : ndarray of int64, (q + 1,)
            Query i's answers are entries ``offsets[i]`` to ``offsets[i + 1]`` of the other two.
        distances : ndarray of int32, (m,)
        ids : ndarray of int64, (m,)
            In (distance, id) order within a query.

        Raises
        ------
        MemoryError
            When there are more answers than fit in memory.
        """
        rows = check_codes(queries, self._bits, "queries")
        n_queries = len(rows) if rows.ndim == 2 else 1
        radius = min(check_int(radius, "radius", 0), MAX_DISTANCE)
        n_threads = backend.threads(threads)
        kernel = backend.active()
        metric = self._metric(kernel, level, weights)
        now = self._current(kernel, n_queries, n_threads) if metric is None and where is None else self._now
        target = self._target(kernel, now, where, n_queries)
        room = room_within(len(now), n_queries)
        try:
            return Ranges(*kernel.within(target.own, rows, metric, radius, n_threads, room))
        except MemoryError:
            raise too_many(radius) from None

    @overload
    def pairs(
        self,
        radius: int,
        other: Index | None = ...,
        *,
        level: str | None = ...,
        weights: Mapping[str, int] | None = ...,
        blocks: Literal[False] = ...,
        threads: int | None = ...,
    ) -> Pairs: ...
    @overload
    def pairs(
        self,
        radius: int,
        other: Index | None = ...,
        *,
        level: str | None = ...,
        weights: Mapping[str, int] | None = ...,
        blocks: Literal[True],
        threads: int | None = ...,
    ) -> Iterator[Pairs]: ...
    def pairs(
        self,
        radius: int,
        other: Index | None = None,
        *,
        level: str | None = None,
        weights: Mapping[str, int] | None = None,
        blocks: bool = False,
        threads: int | None = None,
    ) -> Pairs | Iterator[Pairs]:
        """Find all pairs of codes that are near each other: near-duplicates, of one index or between two.

        Exact, and where the radius is small much cheaper than comparing all with all: codes are sorted by a few of
        their bits, chosen so that no pair can be missed (csrc/hamming/join/join.h has the method and its proof).

        Parameters
        ----------
        radius : int
            The largest distance that is near enough, at least 0.
        other : Index, optional
            Join with the codes of this index, of the same levels, instead of with one another.
        level, weights, threads
            As in `search`.
        blocks : bool
            Return an iterator over the same pairs in the same order, some at a time: for more than fit in memory. Each
            block holds at most two million, or as many as there are codes. They are those of the index at the call.

        Returns
        -------
        i, j : ndarray of int64, (m,)
            Ids in (i, j) order: ``i < j`` of this index; with `other`, i of this index and j of the other.
        distances : ndarray of int32, (m,)

        Raises
        ------
        MemoryError
            When there are more pairs than fit in memory.

        Examples
        --------
        >>> import numpy as np, pyhash
        >>> index = pyhash.Index(16)
        >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8))
        array([0, 1, 2])
        >>> index.pairs(1)
        Pairs(i=array([0]), j=array([2]), distances=array([1], dtype=int32))
        """
        radius = min(check_int(radius, "radius", 0), MAX_DISTANCE)
        if other is not None:
            if not isinstance(other, Index):
                raise TypeError(f"other must be an Index, got {type(other).__name__}")
            if other.levels != self.levels:
                raise ValueError(f"other must have the same levels, {self.levels}, got {other.levels}")
        n_threads = backend.threads(threads)
        kernel = backend.active()
        metric = self._metric(kernel, level, weights)
        now, right = self._now, None if other is None else other._now
        if blocks:
            return in_blocks(kernel, now, right, self._n_words, metric, radius, n_threads)
        own = now.target(kernel).own
        others = None if right is None else right.target(kernel).own
        try:
            room = room_of_pairs(len(now), None if right is None else len(right))
            return Pairs(*kernel.pairs(own, others, metric, radius, n_threads, room=room))
        except MemoryError:
            raise too_many(radius) from None

    def groups(
        self,
        radius: int,
        *,
        level: str | None = None,
        weights: Mapping[str, int] | None = None,
        threads: int | None = None,
    ) -> list[NDArray[np.int64]]:
        """Find groups of codes that hang together by pairs within a radius, directly or through others.

        The pairs are those of `pairs`, but none is kept: it takes some bytes a code, however many pairs there are.

        Parameters
        ----------
        radius : int
            The largest distance of a pair, at least 0. Two codes of a group may be farther apart.
        level, weights, threads
            As in `search`.

        Returns
        -------
        list of ndarray of int64
            The ids of each group, ascending; groups in the order of their smallest id. A code without a partner is in
            none.

        Raises
        ------
        MemoryError
            When that does not fit in memory.

        Examples
        --------
        >>> import numpy as np, pyhash
        >>> index = pyhash.Index(16)
        >>> index.add(np.array([[0, 0], [255, 255], [1, 0], [3, 0]], dtype=np.uint8))
        array([0, 1, 2, 3])
        >>> index.groups(1)
        [array([0, 2, 3])]
        """
        radius = min(check_int(radius, "radius", 0), MAX_DISTANCE)
        n_threads = backend.threads(threads)
        kernel = backend.active()
        metric = self._metric(kernel, level, weights)
        now = self._now
        room = room_of_groups(len(now), self._n_words)
        offsets, ids = kernel.groups(now.target(kernel).own, metric, radius, n_threads, room)
        check_lists(len(offsets) - 1)
        ends = offsets.tolist()
        return [ids[begin:end] for begin, end in itertools.pairwise(ends)]

    def _metric(self, kernel: Kernel, level: str | None, weights: Mapping[str, int] | None) -> Metric | None:
        """Return what is measured: a metric of this kernel, made once; None for the whole code."""
        terms = measure.terms(self._levels, level, weights)
        if terms is None:
            return None
        key = type(kernel), terms
        metric = self._metrics.get(key)
        if metric is None:
            if len(self._metrics) >= _MAX_METRICS:
                self._metrics = {}
            metric = self._metrics[key] = measure.metric(kernel, self._n_bytes, terms)
        return metric

    def _check_cascade(self, kernel: Kernel, cascade: tuple[str, int]) -> tuple[Metric | None, int]:
        if not isinstance(cascade, (tuple, list)) or len(cascade) != 2:
            raise TypeError(f"cascade must be a pair (level, number of candidates), got {cascade!r}")
        level, n_candidates = cascade
        measure.check_level(self._levels, level, "cascade")
        n_candidates = check_int(n_candidates, "cascade's number of candidates", 1)
        return self._metric(kernel, level, None), n_candidates

    def _current(self, kernel: Kernel, n_queries: int, threads: int) -> Snapshot:
        """Count a search of all codes; return what to search, with a ring if it was time to build one."""
        if self._reader is None and self._rings.wanted(kernel, self._now, n_queries):
            self._build_ring(kernel, threads)
        return self._now

    def _target(self, kernel: Kernel, now: Snapshot, where: ArrayLike | None, n_queries: int) -> Target:
        """Return what to search."""
        return now.target(kernel) if where is None else only(kernel, now, check_where(where, len(now)), n_queries)
