"""The index: codes in, nearest ids out, exactly."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import backend
from ..backend import MAX_DISTANCE, Kernel, Metric, Segment
from ..backend import metric as measure
from ..codes import Levels, as_array, check_codes, check_int, from_words, to_words, words_per_code
from ..errors import CorruptIndexError
from ..support import ReadWriteLock, machine, reads
from . import file as _file
from .results import Hits, Pairs, Ranges
from .runs import Runs, ascending

__all__ = ["CorruptIndexError", "Index"]

_log = logging.getLogger("pyhash")
_MAX_ID = 2**63 - 1
_MAX_K = 2**31 - 1
_LARGE_ANSWER = 1 << 24  # entries: from here on, ask whether they fit in memory
_MAX_METRICS = 64  # kept: a service may weigh every query in its own way
_MAX_CANDIDATES = 1 << 24  # of a cascade, held at once: so many queries are taken together
_PAD_ID = -1
_STRUCTURES = ("auto", "flat", "ring")

Codes = NDArray[np.uint8]
Ids = NDArray[np.int64]
Distances = NDArray[np.int32]


class Index:
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
    and the batch. Searches run at the same time as one another and without the GIL; `add`, `update` and `remove` wait
    for them and are seen whole or not at all.

    Examples
    --------
    >>> import numpy as np, pyhash
    >>> index = pyhash.Index(bits=16)
    >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8))
    array([0, 1, 2])
    >>> index.search(np.array([0, 0], dtype=np.uint8), k=2)
    Hits(distances=array([0, 1], dtype=int32), ids=array([0, 2]))
    """

    def __init__(
        self,
        bits: int | Levels | Mapping[str, int] | None = None,
        *,
        levels: Levels | Mapping[str, int] | int | None = None,
        structure: Literal["auto", "flat", "ring"] = "auto",
    ) -> None:
        if (bits is None) == (levels is None):
            raise ValueError(f"exactly one of bits and levels must be given, got bits={bits!r}, levels={levels!r}")
        layout = bits if levels is None else levels if isinstance(levels, int) else Levels(levels)
        if structure not in _STRUCTURES:
            raise ValueError(f"structure must be one of {', '.join(map(repr, _STRUCTURES))}, got {structure!r}")
        if isinstance(layout, Levels):
            self._levels = layout
        elif isinstance(layout, Mapping):
            self._levels = Levels(layout)
        else:
            self._levels = Levels.single(layout)  # type: ignore[arg-type]
        self._bits = self._levels.bits
        self._n_bytes = self._levels.n_bytes
        self._runs = Runs(words_per_code(self._n_bytes), structure)
        self._next_id = 0
        self._metrics: dict[tuple[type[Kernel], measure.Terms], Metric] = {}
        self._lock = ReadWriteLock()
        self._builder: threading.Thread | None = None  # who builds a ring at the moment
        self._reader: _file.Reader | None = None  # the mapped file, which cannot change

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
        return self._runs.structure

    @property
    def readonly(self) -> bool:
        """Whether the index is mapped from a file, and so cannot change."""
        return self._reader is not None

    @property
    @reads
    def ids(self) -> Ids:
        """Ids of all codes, ascending: int64 `(n,)`, a copy."""
        with self._lock.reading():
            return self._runs.ids()

    @property
    @reads
    def nbytes(self) -> int:
        """Bytes of memory in use for codes and ids."""
        with self._lock.reading():
            return sum(run.nbytes for run in self._runs.list)

    @reads
    def __len__(self) -> int:
        with self._lock.reading():
            return len(self._runs)

    @reads
    def __contains__(self, id: object) -> bool:
        try:
            number = check_int(id, "id")
        except TypeError:
            return False
        if not -_MAX_ID - 1 <= number <= _MAX_ID:
            return False
        wanted = np.array([number], dtype=np.int64)
        with self._lock.reading():
            return len(self._runs.taken(wanted)) > 0

    def __repr__(self) -> str:
        name = f"levels={dict(self._levels)!r}" if len(self._levels) > 1 else f"bits={self._bits}"
        return f"<pyhash.Index {name}, {len(self)} codes>"

    @reads
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
        MissingIdError
            When an id is not in the index; it is a KeyError.
        """
        wanted = _check_ids(ids, "ids")
        with self._lock.reading():
            rows = from_words(self._runs.rows(wanted), self._n_bytes)
        return rows[0] if np.ndim(ids) == 0 else rows

    @reads
    def stats(self) -> dict[str, Any]:
        """Describe the index: sizes, structure, kernel, and how queries were answered.

        A run of codes with a ring says how many clusters it has, how many queries it has answered since it was built
        or opened, how many it handed back to a flat pass, and how many codes an answered query passed over on average.
        """
        runs = []
        with self._lock.reading():
            for run in self._runs.list:
                described: dict[str, Any] = {"codes": len(run), "removed": run.n_dead, "clusters": 0}
                if run.ring is not None:
                    described["clusters"] = len(run.ring.least)
                    kernel = backend.active()
                    counters = run.view(kernel).ring_counters() if kernel.rings else None
                    if counters is not None:
                        answered, handed_back, scanned = counters
                        described["answered"] = answered
                        described["handed_back"] = handed_back
                        described["codes_per_query"] = scanned / answered if answered else None
                runs.append(described)
        return {
            "codes": sum(run["codes"] for run in runs),
            "bits": self._bits,
            "levels": dict(self._levels),
            "structure": self.structure,
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
            order = _check_unique(given)
            ordered = given if order is None else given[order]
            words = words if order is None else words[order]
        stored = self._lock.writing(self._insert, words, None if given is None else ordered)
        return stored if given is None else given

    def _insert(self, words: NDArray[np.uint64], ids: Ids | None) -> Ids:
        """Store words whose ids ascend, or get the next free ones; return the ids."""
        self._check_writable()
        n, free = len(words), self._free_id()
        if ids is None:
            if free + n - 1 > _MAX_ID:
                raise ValueError(f"ids must be given: the next free id, {free}, leaves no room for {n}")
            ids = np.arange(free, free + n, dtype=np.int64)
        else:
            taken = self._runs.taken(ids)
            if len(taken):
                raise ValueError(f"ids must be new, but {int(taken[0])} is in the index")
        self._runs.insert(words, ids)
        self._next_id = self._free_id()
        return ids

    def _free_id(self) -> int:
        """Return the id after the largest there ever was, also where an interrupt came before it was noted."""
        return max([self._next_id, *(run.last_id + 1 for run in self._runs.list)])

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
        MissingIdError
            When an id is not in the index; it is a KeyError.
        ValueError, TypeError
            When codes or ids do not fit. The index is unchanged whenever an error is raised.
        """
        wanted = _check_ids(ids, "ids")
        words = to_words(np.atleast_2d(check_codes(codes, self._bits, "codes")))
        if len(words) != len(wanted):
            raise ValueError(f"codes must have one row an id: {len(wanted)}, got {len(words)}")
        _check_unique(wanted)
        self._lock.writing(self._change, self._runs.update, wanted, words)

    def remove(self, ids: ArrayLike) -> None:
        """Remove codes.

        Parameters
        ----------
        ids : int or array_like of int, (n,)
            Ids in the index.

        Raises
        ------
        MissingIdError
            When an id is not in the index; it is then unchanged.
        """
        wanted = ascending(_check_ids(ids, "ids"))
        self._lock.writing(self._change, self._runs.remove, wanted)

    def optimize(self, *, threads: int | None = None) -> None:
        """Do now what is otherwise done as the index is used: one run of codes without gaps, and a ring if it pays.

        Parameters
        ----------
        threads : int, optional
            As in `search`.
        """
        n_threads = backend.threads(threads)
        self._lock.writing(self._change, self._runs.optimize, backend.active(), n_threads)

    def _change(self, change: Callable[..., None], *args: Any) -> None:
        self._check_writable()
        change(*args)

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
        """
        rows = check_codes(queries, self._bits, "queries")
        single = rows.ndim == 1
        words = to_words(rows[None] if single else rows)
        k = check_int(k, "k", 1, _MAX_K)
        n_threads = backend.threads(threads)
        kernel = backend.active()
        if k * len(words) >= _LARGE_ANSWER:
            _check_room(k, len(words))
        terms = measure.terms(self._levels, level, weights)
        if cascade is not None:
            coarse, n_candidates = self._check_cascade(cascade)
        elif terms is None and where is None and self._runs.wants_ring(kernel, len(words)):
            self._build_ring(kernel, n_threads)
        before = self._lock.held()  # not `reads`: one call less where calls count
        try:
            with self._lock.reading():
                segments, allowed = self._to_search(kernel, where, len(words))
                metric = self._metric(kernel, terms)
                if cascade is None:
                    distances, ids = kernel.topk(segments, words, metric, k, allowed, n_threads)
                else:
                    distances = np.empty((len(words), k), dtype=np.int32)
                    ids = np.empty((len(words), k), dtype=np.int64)
                    coarse_metric = self._metric(kernel, coarse)
                    n_candidates = max(1, min(n_candidates, len(self._runs)))
                    step = max(1, _MAX_CANDIDATES // n_candidates)
                    for begin in range(0, len(words), step):
                        batch = words[begin : begin + step]
                        _, near = kernel.topk(segments, batch, coarse_metric, n_candidates, allowed, n_threads)
                        for i, candidates in enumerate(near, begin):
                            runs = self._runs.gathered(np.sort(candidates[candidates != _PAD_ID]))
                            few = [run.view(kernel) for run in runs]
                            distances[i], ids[i] = kernel.topk(few, words[i : i + 1], metric, k, None, 1)
        except BaseException:
            self._lock.give_back(before)
            raise
        return Hits(distances[0], ids[0]) if single else Hits(distances, ids)

    @reads
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
        radius = min(check_int(radius, "radius", 0), MAX_DISTANCE)
        n_threads = backend.threads(threads)
        kernel = backend.active()
        terms = measure.terms(self._levels, level, weights)
        if terms is None and where is None and self._runs.wants_ring(kernel, len(words)):
            self._build_ring(kernel, n_threads)
        try:
            with self._lock.reading():
                segments, allowed = self._to_search(kernel, where, len(words))
                return Ranges(*kernel.within(segments, words, self._metric(kernel, terms), radius, allowed, n_threads))
        except MemoryError:
            raise _too_many(radius) from None

    @reads
    def pairs(self, radius: int, *, threads: int | None = None) -> Pairs:
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
        radius = min(check_int(radius, "radius", 0), MAX_DISTANCE)
        n_threads = backend.threads(threads)
        kernel = backend.active()
        try:
            with self._lock.reading():
                segments, _ = self._to_search(kernel, None, 0)
                return Pairs(*kernel.pairs(segments, radius, n_threads))
        except MemoryError:
            raise _too_many(radius) from None

    def _metric(self, kernel: Kernel, terms: measure.Terms | None) -> Metric | None:
        """Return the backend's metric for these terms, made once; None for the whole code."""
        if terms is None:
            return None
        metric = self._metrics.get((type(kernel), terms))
        if metric is None:
            if len(self._metrics) >= _MAX_METRICS:
                self._metrics = {}
            metric = self._metrics[type(kernel), terms] = measure.metric(kernel, self._n_bytes, terms)
        return metric

    def _check_cascade(self, cascade: tuple[str, int]) -> tuple[measure.Terms | None, int]:
        if not isinstance(cascade, (tuple, list)) or len(cascade) != 2:
            raise TypeError(f"cascade must be a pair (level, number of candidates), got {cascade!r}")
        level, n_candidates = cascade
        measure.check_level(self._levels, level, "cascade")
        return measure.terms(self._levels, level, None), check_int(n_candidates, "cascade's number of candidates", 1)

    @reads
    def _build_ring(self, kernel: Kernel, threads: int) -> None:
        """Build a ring while others go on searching; changes wait for it."""
        builder = self._builder
        if self._reader is not None or (builder is not None and builder.is_alive()) or self._lock.reads_here():
            return  # a mapped file does not change; another thread is at it (one that a fork left behind is not alive)
        self._builder = threading.current_thread()
        try:
            with self._lock.reading():
                plan = self._runs.plan_ring(kernel, threads)
            self._lock.writing(self._runs.take_ring, plan)
        except MemoryError:  # searches go on without it
            _log.warning("no memory to build a ring for %d codes; searching without", len(self))
            self._runs.give_up_ring()
        finally:
            self._builder = None

    def _to_search(
        self, kernel: Kernel, where: ArrayLike | None, n_queries: int
    ) -> tuple[list[Segment], list[NDArray[np.uint64]] | None]:
        """Return the backend's segments to search, and bit masks of what is allowed in them."""
        if where is None:
            return [run.view(kernel) for run in self._runs.for_backend(kernel)], None
        allowed = as_array(where, "where")
        if allowed.ndim != 1:
            raise ValueError(f"where must be 1-D, got {allowed.ndim}-D")
        if allowed.dtype != np.bool_:
            allowed = _check_ids(allowed, "where")
        elif len(allowed) != len(self):
            raise ValueError(f"where, as a mask, must have one entry a code: {len(self)}, got {len(allowed)}")
        runs, masks = self._runs.restricted(kernel, allowed, n_queries)
        return [run.view(kernel) for run in runs], masks

    # Files, bytes, copies

    @reads
    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the index to a file.

        The file is written beside `path`, synced and renamed, so that `path` holds the old index or the new one, whole.

        Parameters
        ----------
        path : path
        overwrite : bool
            Replace a plain file that is no index, too.

        Raises
        ------
        ForeignFileError
            When a file is there that is no index.
        OSError
            When the file cannot be written; `path` is then as it was.
        """
        with self._lock.reading():
            _file.save(path, *self._content(), overwrite=overwrite)

    @classmethod
    def open(cls, path: str | os.PathLike[str], mmap: bool = False) -> Index:
        """Open an index file.

        Parameters
        ----------
        path : path
            A file written by `save`.
        mmap : bool
            Map the file instead of reading it: opens at once whatever its size, shares memory between processes, and
            is read-only. The header is checked now, the codes by `verify`. Replace such a file by renaming another
            onto it, as `save` does; one that is cut short in place ends every process that has it mapped (SIGBUS).

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

    @reads
    def to_bytes(self) -> bytes:
        """Return the content of the file that `save` would write."""
        with self._lock.reading():
            return _file.dump(*self._content())

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Index:
        """Read what `to_bytes` returned; CorruptIndexError when it is damaged."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes, got {type(data).__name__}")
        reader = _file.Reader.from_bytes(bytes(data))
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
        meta = {"levels": list(self._levels.items()), "next_id": self._free_id(), "structure": self.structure}
        described, sections = _file.describe_runs(self._runs.list)
        return {**meta, "runs": described}, sections

    @classmethod
    def _from_reader(cls, reader: _file.Reader, *, readonly: bool) -> Index:
        with reader.expecting_sense():
            meta = reader.meta
            index = cls(levels=Levels(dict(meta["levels"])), structure=meta["structure"])
            index._runs.list = reader.runs(index._runs.n_words)
            # The ids of a mapped file are not looked at, and nothing is added to it.
            taken = [] if readonly else [run.last_id + 1 for run in index._runs.list]
            index._next_id = _file.whole(meta["next_id"], max([0, *taken]), _MAX_ID + 1)
        index._reader = reader if readonly else None
        return index


def _check_room(k: int, n_queries: int) -> None:
    if 48 * k * n_queries > machine.available_memory():
        raise MemoryError(f"k must be smaller: {n_queries} answers of {k} entries do not fit in memory")


def _too_many(radius: int) -> MemoryError:
    return MemoryError(f"radius must be smaller: more lies within {radius} than fits in memory")


def _check_ids(ids: ArrayLike, name: str) -> Ids:
    """Return ids as int64 `(n,)`; a single id as one entry."""
    array = np.atleast_1d(as_array(ids, name))
    if array.size == 0 and array.dtype == np.float64:  # what NumPy makes of an empty list
        array = array.astype(np.int64)
    if array.dtype == np.object_:  # what NumPy makes of integers that fit in no type of its own
        for id in array.flat:
            if type(id) is int:
                check_int(id, name, -_MAX_ID - 1, _MAX_ID)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got {array.ndim}-D")
    if array.dtype.kind == "u" and array.size:
        check_int(array.max(), name, maximum=_MAX_ID)
    return array.astype(np.int64)


def _check_unique(ids: Ids) -> NDArray[np.intp] | None:
    """Return the order in which ids ascend, None where they do as they are; ValueError when one is there twice."""
    if np.all(ids[1:] > ids[:-1]):
        return None
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise ValueError(f"ids must be unique, got {int(repeated[0])} more than once")
    return order
