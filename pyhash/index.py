"""The index: codes in, nearest ids out, exactly."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _file, backend, store
from ._lock import ReadWriteLock
from .codes import Levels, check_codes, check_int, from_words, to_words
from .store import BLOCK, Run

_MAX_DISTANCE = 2**31 - 2  # 2**31 - 1 is the padding
_MAX_ID = 2**63 - 1
_PAD_ID = -1
_SMALL_RUN = 4096  # runs up to this size are merged at once
_RING_FROM = 1 << 16  # codes from which "auto" thinks of a ring: below, a flat pass takes microseconds
_RING_AFTER = 4096  # flat passes that take about as long as building a ring
_FEW_QUERIES = 16  # in one call: below, each passes over the codes alone
_MAX_RING_WORDS = 64  # as in csrc/hamming/ring.h
_RING_SHARE = 0.5  # of a flat pass: what a query may cost with a ring that is worth building
_STRUCTURES = ("auto", "flat", "ring")

Codes = NDArray[np.uint8]
Ids = NDArray[np.int64]
Distances = NDArray[np.int32]
_Words = NDArray[np.uint64]
_Terms = tuple[tuple[int, int, int], ...]  # (first byte, end byte, weight)


class Index:
    """Exact Hamming search over binary codes.

    Parameters
    ----------
    bits : int, optional
        Length of a code in bits, 1 to 65536. Give this or `levels`.
    levels : Levels or mapping of str to int, optional
        Named runs of bits in order, each a whole number of bytes, for example ``{"coarse": 16, "fine": 48}``.
    structure : {"auto", "flat", "ring"}
        How codes are searched; the answers never differ. A flat search passes over all codes. A ring clusters them and
        passes over those that can be near the query. ``"auto"`` builds a ring when there are many codes, enough searches
        to pay for building it, and sampled codes show that it makes queries cheaper; `optimize` builds it at once.

    Notes
    -----
    Every answer is ordered by (distance, id): ties go to the smaller id, whatever the kernel, the number of threads and
    the batch. Searches run at the same time as one another and without the GIL; `add`, `update` and `remove` wait for
    them and are seen whole or not at all.

    Examples
    --------
    >>> import numpy as np, pyhash
    >>> index = pyhash.Index(bits=16)
    >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8))
    array([0, 1, 2])
    >>> index.search(np.array([0, 0], dtype=np.uint8), k=2)
    (array([0, 1], dtype=int32), array([0, 2]))
    """

    def __init__(
        self, bits: int | None = None, *, levels: Levels | Mapping[str, int] | None = None, structure: str = "auto"
    ) -> None:
        if (bits is None) == (levels is None):
            raise ValueError(f"exactly one of bits and levels must be given, got bits={bits!r}, levels={levels!r}")
        if structure not in _STRUCTURES:
            raise ValueError(f"structure must be one of {', '.join(map(repr, _STRUCTURES))}, got {structure!r}")
        if levels is None:
            self._levels = Levels.single(bits)  # type: ignore[arg-type]
        else:
            self._levels = levels if isinstance(levels, Levels) else Levels(levels)
        self._structure = structure
        self._runs: list[Run] = []
        self._next_id = 0
        self._flat_passes = 0.0  # queries answered without a ring since the main run was made
        self._judged = 0  # codes in the main run when a ring was last found not to pay
        self._lock = ReadWriteLock()
        self._building = threading.Lock()
        self._reader: _file.Reader | None = None  # the mapped file, for verify()
        self._set_up()

    def _set_up(self) -> None:
        """Derive what follows from the levels."""
        self._bits = self._levels.bits
        self._n_bytes = self._levels.n_bytes
        self._n_words = store.words_per_code(self._n_bytes)
        self._metrics: dict[tuple[ModuleType, _Terms], Any] = {}

    # What there is

    @property
    def bits(self) -> int:
        """Length of a code in bits."""
        return self._bits

    @property
    def levels(self) -> Levels:
        """The levels of a code."""
        return self._levels

    @property
    def structure(self) -> str:
        """How codes are searched: what was asked for."""
        return self._structure

    @property
    def readonly(self) -> bool:
        """Whether the index is mapped from a file, and so cannot change."""
        return self._reader is not None

    @property
    def ids(self) -> Ids:
        """Ids of all codes, ascending: int64 `(n,)`, a copy."""
        self._lock.acquire_read()
        try:
            return self._all_ids()
        finally:
            self._lock.release_read()

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use for codes and ids."""
        return sum(run.nbytes for run in self._runs)

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def __contains__(self, id: object) -> bool:
        try:
            number = check_int(id, "id")
        except TypeError:
            return False
        if not -_MAX_ID - 1 <= number <= _MAX_ID:
            return False
        wanted = np.array([number], dtype=np.int64)
        self._lock.acquire_read()
        try:
            return any(run.find(wanted)[0] >= 0 for run in self._runs)
        finally:
            self._lock.release_read()

    def __repr__(self) -> str:
        name = f"levels={dict(self._levels)!r}" if len(self._levels) > 1 else f"bits={self._bits}"
        return f"<pyhash.Index {name}, {len(self)} codes>"

    def codes(self, ids: ArrayLike) -> Codes:
        """Return stored codes.

        Parameters
        ----------
        ids : int or array_like of int, (n,)
            Ids in any order, repeated ones too.

        Returns
        -------
        ndarray of uint8, (n, n_bytes), or (n_bytes,) for a single id

        Raises
        ------
        KeyError
            When an id is not in the index.
        """
        wanted = _check_ids(ids, "ids")
        words = np.empty((len(wanted), self._n_words), dtype=np.uint64)
        self._lock.acquire_read()
        try:
            for run, here, slots in self._locate(wanted):
                words[here] = run.rows(slots)
        finally:
            self._lock.release_read()
        rows = from_words(words, self._n_bytes)
        return rows[0] if np.ndim(ids) == 0 else rows

    def stats(self) -> dict[str, Any]:
        """Describe the index: sizes, structure, kernel, and how queries were answered.

        A run of codes with a ring says how many clusters it has, how many queries it answered since it was last changed,
        how many it handed back to a flat pass, and how many codes an answered query passed over on average.
        """
        runs = []
        self._lock.acquire_read()
        try:
            for run in self._runs:
                described: dict[str, Any] = {"codes": len(run), "removed": run.n_dead, "clusters": 0}
                if run.ring is not None:
                    described["clusters"] = len(run.ring.least)
                    module = backend.module()
                    if _can_ring(module):
                        answered, handed_back, scanned = run.view(module).ring_counters()
                        described["answered"] = answered
                        described["handed_back"] = handed_back
                        described["codes_per_query"] = scanned / answered if answered else None
                runs.append(described)
        finally:
            self._lock.release_read()
        return {
            "codes": sum(run["codes"] for run in runs),
            "bits": self._bits,
            "levels": dict(self._levels),
            "structure": self._structure,
            "runs": runs,
            "nbytes": self.nbytes,
            "readonly": self.readonly,
            "kernel": backend.kernel(),
        }

    # Changes

    def add(self, codes: ArrayLike, ids: ArrayLike | None = None) -> Ids:
        """Add codes.

        Parameters
        ----------
        codes : array_like of uint8, (n, n_bytes) or (n_bytes,)
            Packed codes; bits beyond the length of a code must be zero.
        ids : array_like of int, (n,), optional
            Ids not in the index, each once; any int64 but -1, which pads answers. By default the next free ones:
            counting on from the largest id there ever was.

        Returns
        -------
        ndarray of int64, (n,)
            The ids given to the codes.

        Raises
        ------
        ValueError, TypeError
            When codes or ids do not fit; the index is then unchanged.
        """
        rows = check_codes(codes, self._bits, "codes")
        words = to_words(np.atleast_2d(rows))
        n = len(words)
        given = None if ids is None else _check_ids(ids, "ids")
        if given is not None:
            if len(given) != n:
                raise ValueError(f"ids must have one entry a code: {n}, got {len(given)}")
            if np.any(given == _PAD_ID):
                raise ValueError("ids must not contain -1, which marks padding in answers")
            if n > 1 and not np.all(given[1:] > given[:-1]):
                order = np.argsort(given, kind="stable")
                ordered = given[order]
                repeated = ordered[1:][ordered[1:] == ordered[:-1]]
                if len(repeated):
                    raise ValueError(f"ids must be unique, got {int(repeated[0])} more than once")
                words = words[order]
            else:
                ordered = given
        with self._lock:
            self._check_writable()
            if given is None:
                if self._next_id + n - 1 > _MAX_ID:
                    raise ValueError(f"ids must be given: the next free id, {self._next_id}, leaves no room for {n}")
                given = ordered = np.arange(self._next_id, self._next_id + n, dtype=np.int64)
            else:
                for run in self._runs:
                    taken = ordered[run.find(ordered) >= 0]
                    if len(taken):
                        raise ValueError(f"ids must be new, but {int(taken[0])} is in the index")
            self._insert(words, ordered)
            if n:
                self._next_id = max(self._next_id, int(ordered[-1]) + 1)
        return given

    def update(self, ids: ArrayLike, codes: ArrayLike) -> None:
        """Replace the codes of ids that are in the index.

        Parameters
        ----------
        ids : int or array_like of int, (n,)
            Ids, each once.
        codes : array_like of uint8, (n, n_bytes), or (n_bytes,) for a single id
            The new codes.

        Raises
        ------
        KeyError
            When an id is not in the index.
        ValueError, TypeError
            When codes or ids do not fit. The index is unchanged whenever an error is raised.
        """
        wanted = _check_ids(ids, "ids")
        words = to_words(np.atleast_2d(check_codes(codes, self._bits, "codes")))
        if len(words) != len(wanted):
            raise ValueError(f"codes must have one row an id: {len(wanted)}, got {len(words)}")
        if len(np.unique(wanted)) != len(wanted):
            raise ValueError("ids must be unique, got one more than once")
        with self._lock:
            self._check_writable()
            moved = []
            for run, here, slots in self._locate(wanted):
                if run.ring is None:
                    run.overwrite(slots, words[here])
                else:  # where a code lies in a ring depends on its bits
                    run.remove(slots)
                    moved.append(here)
            self._tidy()
            for here in moved:
                here = here[np.argsort(wanted[here])]
                self._insert(words[here], wanted[here])

    def remove(self, ids: ArrayLike) -> None:
        """Remove codes.

        Parameters
        ----------
        ids : int or array_like of int, (n,)
            Ids in the index.

        Raises
        ------
        KeyError
            When an id is not in the index; it is then unchanged.
        """
        wanted = np.unique(_check_ids(ids, "ids"))
        with self._lock:
            self._check_writable()
            for run, _, slots in self._locate(wanted):
                run.remove(slots)
            self._tidy()

    def optimize(self, *, threads: int | None = None) -> None:
        """Do now what is otherwise done as the index is used: make one run of codes without gaps, and a ring if it pays.

        Parameters
        ----------
        threads : int, optional
            As in `search`.
        """
        n_threads = backend.threads(threads)
        with self._lock:
            self._check_writable()
            if len(self._runs) > 1 or any(run.n_dead for run in self._runs):
                self._runs = [store.merged(self._runs)]
            if self._runs and self._runs[0].ring is None and self._structure != "flat":
                ring = self._ringed(self._runs[0], n_threads, least_codes=BLOCK)
                if ring is not None:
                    self._runs = [ring]

    def _tidy(self) -> None:
        """Drop runs that are empty, and gaps where there are too many."""
        for i, run in enumerate(self._runs):
            if run.n_dead * 2 > run.n_codes and len(run):
                self._runs[i] = store.merged([run])
        self._runs = [run for run in self._runs if len(run)]

    def _ringed(self, run: Run, threads: int, least_codes: int) -> Run | None:
        """Return a flat run with a ring; None where a ring cannot be had or, unless asked for, would not pay."""
        module: Any = backend.module()
        if not _can_ring(module) or self._n_words > _MAX_RING_WORDS or not least_codes <= run.n_codes < 2**32:
            return None
        n_clusters, share = module.choose_clusters(run.view(module), threads)
        if share > _RING_SHARE and self._structure != "ring":
            return None
        return run.with_ring(module, n_clusters, threads)

    def _consider_ring(self, n_queries: int, threads: int) -> None:
        """Count a search, and build a ring when searches have cost about as much as building one."""
        if not self._building.acquire(blocking=False):
            return  # another thread is at it
        try:
            main = self._runs[0]
            # Many queries in one call share a pass.
            self._flat_passes += n_queries if n_queries < _FEW_QUERIES else n_queries / 4
            if main.ring is not None or self._reader is not None or main.n_codes < 2 * self._judged:
                return
            if self._structure != "ring" and self._flat_passes < _RING_AFTER:
                return
            self._flat_passes = 0.0
            with self._lock:
                # Looked at again: what was seen without the lock may have changed.
                main = self._runs[0] if self._runs else main
                if main.ring is not None:
                    return
                if main.n_dead:
                    main = store.merged([main])
                ring = self._ringed(main, threads, least_codes=1)
                if ring is None:
                    self._judged = main.n_codes
                else:
                    self._runs[0] = ring
        finally:
            self._building.release()

    def _insert(self, words: _Words, ids: Ids) -> None:
        """Store rows of words whose ids ascend and are new."""
        if not len(ids):
            return
        if self._runs and self._runs[-1].ring is None and int(ids[0]) > self._runs[-1].last_id:
            self._runs[-1].append(words, ids)
        else:
            self._runs.append(Run.from_rows(words, ids))
        # Ids out of order make new runs. Each run is at least twice the next, so there are few of them, and a code is
        # moved only as often as the logarithm of their number.
        while len(self._runs) > 1:
            a, b = self._runs[-2:]
            if a.n_codes >= 2 * b.n_codes and a.n_codes + b.n_codes > _SMALL_RUN:
                break
            self._runs[-2:] = [store.merged([a, b])]

    def _check_writable(self) -> None:
        if self._reader is not None:
            raise ValueError("the index is mapped from a file and read-only; open it with mmap=False to change it")

    # Searches

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
    ) -> tuple[Distances, Ids]:
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
            Coarse to fine: take this many of the nearest at this level, then rank them by the whole code (or by `level`
            or `weights`).
        threads : int, optional
            The most threads to use; by default as many CPUs as this process may run on (or PYHASH_THREADS).

        Returns
        -------
        distances : ndarray of int32, (q, k), or (k,) for a single query
        ids : ndarray of int64, likewise
            In (distance, id) order. Where fewer than k are found: distance 2**31 - 1 and id -1.
        """
        rows = check_codes(queries, self._bits, "queries")
        single = rows.ndim == 1
        words = to_words(rows[None] if single else rows)
        k = check_int(k, "k", 1)
        n_threads = backend.threads(threads)
        module = backend.module()
        terms = None if level is None and weights is None else self._terms(level, weights)
        if cascade is not None:
            coarse, n_candidates = self._check_cascade(cascade)
        elif terms is None and where is None:
            self._count_search(len(words), n_threads)
        self._lock.acquire_read()
        try:
            runs, allowed = self._to_search(module, where, len(words))
            metric = None if terms is None else self._metric(module, terms)
            if cascade is None:
                segments = [run.view(module) for run in runs]
                distances, ids = module.topk(segments, words, metric, k, allowed, n_threads)
            else:
                segments = [run.view(module) for run in runs]
                coarse_metric = None if coarse is None else self._metric(module, coarse)
                _, near = module.topk(segments, words, coarse_metric, n_candidates, allowed, n_threads)
                found = [self._ranked(module, words[i : i + 1], near[i], metric, k) for i in range(len(words))]
                distances = np.concatenate([d for d, _ in found] or [np.empty((0, k), np.int32)])
                ids = np.concatenate([i for _, i in found] or [np.empty((0, k), np.int64)])
        finally:
            self._lock.release_read()
        return (distances[0], ids[0]) if single else (distances, ids)

    def range_search(
        self,
        queries: ArrayLike,
        radius: int,
        *,
        level: str | None = None,
        weights: Mapping[str, int] | None = None,
        where: ArrayLike | None = None,
        threads: int | None = None,
    ) -> tuple[NDArray[np.int64], Distances, Ids]:
        """Find all codes within a distance of each query.

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
        """
        rows = check_codes(queries, self._bits, "queries")
        words = to_words(rows[None] if rows.ndim == 1 else rows)
        radius = min(check_int(radius, "radius", 0), _MAX_DISTANCE)
        n_threads = backend.threads(threads)
        module = backend.module()
        terms = self._terms(level, weights)
        if terms is None and where is None:
            self._count_search(len(words), n_threads)
        self._lock.acquire_read()
        try:
            runs, allowed = self._to_search(module, where, len(words))
            metric = None if terms is None else self._metric(module, terms)
            segments = [run.view(module) for run in runs]
            found: tuple[NDArray[np.int64], Distances, Ids]
            found = module.within(segments, words, metric, radius, allowed, n_threads)
            return found
        finally:
            self._lock.release_read()

    def pairs(self, radius: int, *, threads: int | None = None) -> tuple[Ids, Ids, Distances]:
        """Find all pairs of stored codes that are near each other: near-duplicates.

        Parameters
        ----------
        radius : int
            The largest distance that is near enough, at least 0.
        threads : int, optional
            As in `search`.

        Returns
        -------
        i, j : ndarray of int64, (m,)
            Ids with ``i < j``, in (i, j) order.
        distances : ndarray of int32, (m,)
        """
        radius = min(check_int(radius, "radius", 0), _MAX_DISTANCE)
        n_threads = backend.threads(threads)
        module = backend.module()
        self._lock.acquire_read()
        try:
            found: tuple[Ids, Ids, Distances]
            runs, _ = self._to_search(module, None, 0)
            found = module.pairs([run.view(module) for run in runs], radius, n_threads)
            return found
        finally:
            self._lock.release_read()

    def _terms(self, level: str | None, weights: Mapping[str, int] | None) -> _Terms | None:
        """Turn what is to be measured into byte ranges with weights; None is the whole code."""
        if level is not None:
            if weights is not None:
                raise ValueError("level and weights must not both be given")
            chosen = {level: 1}
            name = "level"
        elif weights is not None:
            if not isinstance(weights, Mapping):
                raise TypeError(f"weights must be a mapping of level to integer, got {type(weights).__name__}")
            chosen = {key: check_int(value, f"weights[{key!r}]", 0) for key, value in weights.items()}
            name = "weights"
        else:
            return None
        for key in chosen:
            if key not in self._levels:
                known = ", ".join(map(repr, self._levels))
                raise ValueError(f"{name} must name levels of this index ({known}), got {key!r}")
        terms = []
        for key in self._levels:
            weight = chosen.get(key, 0)
            if weight:
                part = self._levels.byte_range(key)
                terms.append((part.start, part.stop, weight))
        if not terms:
            raise ValueError(f"weights must have one that is not 0, got {dict(chosen)!r}")
        most = sum(self._levels[key] * weight for key, weight in chosen.items())
        if most > _MAX_DISTANCE:
            raise ValueError(f"weights must keep distances below 2**31 - 1, got a largest distance of {most}")
        if len(terms) == len(self._levels) and all(weight == 1 for _, _, weight in terms):
            return None
        return tuple(terms)

    def _metric(self, module: ModuleType, terms: _Terms) -> Any:
        """Return the backend's metric for these terms, made once."""
        metric = self._metrics.get((module, terms))
        if metric is None:
            words, masks, factors = [], [], []
            for first, end, weight in terms:
                mask = np.zeros(self._n_words * 8, dtype=np.uint8)
                mask[first:end] = 255
                words_of_level = mask.view(np.uint64)
                for word in np.flatnonzero(words_of_level).tolist():
                    words.append(word)
                    masks.append(words_of_level[word])
                    factors.append(weight)
            metric = module.Metric(
                np.array(words, dtype=np.uint32), np.array(masks, dtype=np.uint64), np.array(factors, dtype=np.uint32)
            )
            self._metrics[module, terms] = metric
        return metric

    def _check_cascade(self, cascade: tuple[str, int]) -> tuple[_Terms | None, int]:
        if not isinstance(cascade, (tuple, list)) or len(cascade) != 2:
            raise TypeError(f"cascade must be a pair (level, number of candidates), got {cascade!r}")
        level, n_candidates = cascade
        if level not in self._levels:
            known = ", ".join(map(repr, self._levels))
            raise ValueError(f"cascade must name a level of this index ({known}), got {level!r}")
        return self._terms(level, None), check_int(n_candidates, "cascade's number of candidates", 1)

    def _ranked(self, module: ModuleType, query: _Words, ids: Ids, metric: Any, k: int) -> tuple[Distances, Ids]:
        """Return the k nearest among these ids (padding left out)."""
        wanted = np.sort(ids[ids != _PAD_ID])
        runs = [self._gathered(run, slots) for run, _, slots in self._locate(wanted)]
        found: tuple[Distances, Ids]
        found = module.topk([run.view(module) for run in runs], query, metric, k, None, 1)
        return found

    def _count_search(self, n_queries: int, threads: int) -> None:
        if self._structure != "flat" and self._runs:
            n = self._runs[0].n_codes
            if n >= _RING_FROM or (self._structure == "ring" and self._runs[0].ring is None):
                self._consider_ring(n_queries, threads)

    def _to_search(
        self, module: ModuleType, where: ArrayLike | None, n_queries: int
    ) -> tuple[list[Run], list[_Words] | None]:
        """Return the runs to search, and bit masks of what is allowed where not everything is.

        Few allowed codes are gathered into small runs of their own; many are marked in a bit mask, a word a block.
        """
        runs = self._runs
        if not _can_ring(module):
            runs = [run.flattened() for run in runs]
        if where is None:
            return runs, None
        allowed = np.asarray(where)
        if allowed.ndim != 1:
            raise ValueError(f"where must be 1-D, got {allowed.ndim}-D")
        if allowed.dtype == np.bool_:
            n = len(self)
            if len(allowed) != n:
                raise ValueError(f"where, as a mask, must have one entry a code: {n}, got {len(allowed)}")
            if len(runs) == 1 and runs[0].dead is None and runs[0].ring is None:
                slots = [np.flatnonzero(allowed)]
            else:
                wanted = self._all_ids()[allowed]
                slots = [_present(run.find(wanted)) for run in runs]
        else:
            wanted = np.unique(_check_ids(allowed, "where"))
            slots = [_present(run.find(wanted)) for run in runs]
        n_allowed = sum(map(len, slots))
        n_codes = sum(run.n_codes for run in runs)
        # Gathering a code costs about as much as passing over a few hundred, once for all queries.
        if n_allowed <= BLOCK or (n_allowed * 256 < n_codes * n_queries and n_allowed * 8 < n_codes):
            return [self._gathered(run, s) for run, s in zip(runs, slots, strict=True) if len(s)], None
        masks = []
        for run, run_slots in zip(runs, slots, strict=True):
            marks = np.zeros(run.n_blocks * BLOCK, dtype=np.bool_)
            marks[run_slots] = True
            masks.append(np.packbits(marks, bitorder="little").view("<u8").astype(np.uint64, copy=False))
        return runs, masks

    def _gathered(self, run: Run, slots: NDArray[np.int64]) -> Run:
        """Return a small flat run with the codes of these slots, which are in the order of their ids."""
        return Run.from_rows(run.rows(slots), run.ids_of(slots))

    def _locate(self, ids: Ids) -> Iterable[tuple[Run, NDArray[np.intp], NDArray[np.int64]]]:
        """Yield, for each run that holds some of these ids: the run, which of them, and their slots."""
        located = []
        missing = np.ones(len(ids), dtype=np.bool_)
        for run in self._runs:
            slots = run.find(ids)
            here = np.flatnonzero(slots >= 0)
            if len(here):
                missing[here] = False
                located.append((run, here, slots[here]))
        if missing.any():
            raise KeyError(f"ids must be in the index, but {int(ids[missing][0])} is not")
        return located

    def _all_ids(self) -> Ids:
        if len(self._runs) == 1:
            return self._runs[0].live_ids().copy()
        return np.sort(np.concatenate([run.live_ids() for run in self._runs] or [np.empty(0, np.int64)]))

    # Files, bytes, copies

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a file.

        The file is written beside `path`, synced and renamed, so that `path` holds the old index or the new one, whole.

        Raises
        ------
        OSError
            When the file cannot be written; `path` is then as it was.
        """
        self._lock.acquire_read()
        try:
            _file.save(path, *self._content())
        finally:
            self._lock.release_read()

    @classmethod
    def open(cls, path: str | os.PathLike[str], mmap: bool = False) -> Index:
        """Open an index file.

        Parameters
        ----------
        path : path
            A file written by `save`.
        mmap : bool
            Map the file instead of reading it: opens at once whatever its size, shares memory between processes, and
            is read-only. The header is checked now, the codes by `verify`.

        Raises
        ------
        CorruptIndexError
            When the file is damaged, cut short, or not an index.
        OSError
            When it cannot be read.
        """
        reader = _file.Reader.open(path, mmap)
        if not mmap:
            reader.verify()
        return cls._from_reader(reader, readonly=mmap)

    def to_bytes(self) -> bytes:
        """Return the content of the file that `save` would write."""
        self._lock.acquire_read()
        try:
            return _file.dump(*self._content())
        finally:
            self._lock.release_read()

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Index:
        """Read what `to_bytes` returned; CorruptIndexError when it is damaged."""
        reader = _file.Reader.from_bytes(data)
        reader.verify()
        return cls._from_reader(reader, readonly=False)

    def verify(self) -> None:
        """Check the checksums of a mapped file; CorruptIndexError when it is damaged."""
        if self._reader is not None:
            self._reader.verify()

    def __bytes__(self) -> bytes:
        return self.to_bytes()

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return type(self).from_bytes, (self.to_bytes(),)

    def __copy__(self) -> Index:
        return type(self).from_bytes(self.to_bytes())

    def _content(self) -> tuple[dict[str, Any], list[_file.Section]]:
        """Return what a file holds: what the index is, and the arrays of each run."""
        sections = []
        for i, run in enumerate(self._runs):
            sections.append(_file.Section(f"{i}.blocks", _clean_blocks(run)))
            if run.ids is not None:
                sections.append(_file.Section(f"{i}.ids", [run.ids[: run.n_codes]]))
            if run.dead is not None:
                sections.append(_file.Section(f"{i}.dead", [run.dead[: run.n_blocks]]))
            if run.ring is not None:
                sections += [_file.Section(f"{i}.ring.{k}", [array]) for k, array in run.ring._asdict().items()]
        meta = {
            "levels": list(self._levels.items()),
            "runs": [{"codes": run.n_codes, "first_id": run.first_id} for run in self._runs],
            "next_id": self._next_id,
            "structure": self._structure,
        }
        return meta, sections

    @classmethod
    def _from_reader(cls, reader: _file.Reader, *, readonly: bool) -> Index:
        meta = reader.meta
        index = cls(levels=Levels(dict(meta["levels"])), structure=meta["structure"])
        for i, described in enumerate(meta["runs"]):
            blocks = reader.array(f"{i}.blocks")
            if blocks.shape != (-(-described["codes"] // BLOCK), index._n_words, BLOCK):
                raise CorruptIndexError(f"the blocks of run {i} have shape {blocks.shape}, not that of its codes")
            ring = None
            if f"{i}.ring.order" in reader:
                ring = store.Ring(*(reader.array(f"{i}.ring.{k}") for k in store.Ring._fields))
            ids = reader.array(f"{i}.ids") if f"{i}.ids" in reader else None
            dead = reader.array(f"{i}.dead") if f"{i}.dead" in reader else None
            index._runs.append(Run.from_arrays(blocks, described["codes"], described["first_id"], ids, dead, ring))
        index._next_id = meta["next_id"]
        index._reader = reader if readonly else None
        return index


def _can_ring(module: ModuleType) -> bool:
    return hasattr(module, "build_ring")


def _clean_blocks(run: Run) -> list[_Words]:
    """Return the blocks in use, lanes after the last code zero: what a file holds does not depend on chance."""
    chunks = list(run.used_chunks())
    used = run.n_codes % BLOCK
    if used:
        last = chunks[-1][-1:].copy()
        last[..., used:] = 0
        chunks[-1:] = [chunks[-1][:-1], last]
    return chunks


def _check_ids(ids: ArrayLike, name: str) -> Ids:
    """Return ids as int64 `(n,)`; a single id as one entry."""
    array = np.atleast_1d(np.asarray(ids))
    if array.size == 0 and array.dtype == np.float64:  # what NumPy makes of an empty list
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got {array.ndim}-D")
    if array.dtype.kind == "u" and array.size and int(array.max()) > _MAX_ID:
        raise ValueError(f"{name} must be at most 2**63 - 1, got {int(array.max())}")
    return array.astype(np.int64)


def _present(slots: NDArray[np.int64]) -> NDArray[np.int64]:
    return slots[slots >= 0]


CorruptIndexError = _file.CorruptIndexError
__all__ = ["CorruptIndexError", "Index"]
