"""The index: codes in, nearest ids out, exactly."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import backend
from ..backend import MAX_DISTANCE, PAD_ID, Kernel, Metric
from ..backend import metric as measure
from ..codes import Levels, check_codes, check_int, from_words, to_words, words_per_code
from ..errors import CorruptIndexError
from . import file as _file
from .checks import MAX_ID, check_ids, check_room, check_unique, check_where, too_many
from .chunks import Words
from .results import Hits, Pairs, Ranges
from .rings import Rings, Structure
from .search import Target, ascending, cascaded, everything, only
from .segment import Ids, Segment
from .sense import nonsense
from .snapshot import Snapshot
from .stats import IndexStats, SegmentStats
from .writer import Writer

__all__ = ["CorruptIndexError", "Index"]

_MAX_K = 2**31 - 1
_LARGE_ANSWER = 1 << 24  # entries: from here on, ask whether they fit in memory
_MAX_METRICS = 64  # kept: a service may weigh every query in its own way
_STRUCTURES = ("auto", "flat", "ring")

Codes = NDArray[np.uint8]
_T = TypeVar("_T")


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

    def __init__(
        self,
        bits: int | Levels | Mapping[str, int] | None = None,
        *,
        levels: Levels | Mapping[str, int] | int | None = None,
        structure: Structure = "auto",
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
        self._n_words = words_per_code(self._n_bytes)
        self._now = Snapshot()  # a reader takes it once a call; a change ends in one store of another
        self._writer = Writer()
        self._rings = Rings(structure)
        self._metrics: dict[tuple[type[Kernel], measure.Terms], Metric] = {}
        self._reader: _file.Reader | None = None  # the mapped file, which cannot change
        self._origin: Index | None = None  # whose snapshot this is

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
    def structure(self) -> Structure:
        """How codes are searched: what was asked for."""
        return self._rings.structure

    @property
    def readonly(self) -> bool:
        """Whether the index cannot change: it is mapped from a file, or a `snapshot`."""
        return self._reader is not None or self._origin is not None

    @property
    def ids(self) -> Ids:
        """Ids of all codes, ascending: int64 `(n,)`, a copy."""
        return self._now.ids()

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use for codes and ids."""
        return sum(segment.nbytes for segment in self._now.segments)

    def __len__(self) -> int:
        return self._now.n_codes

    def __contains__(self, id: object) -> bool:
        try:
            number = check_int(id, "id")
        except TypeError:
            return False
        if not -MAX_ID - 1 <= number <= MAX_ID:
            return False
        return len(self._now.taken(np.array([number], dtype=np.int64))) > 0

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
        MissingIdError
            When an id is not in the index; it is a KeyError.
        """
        rows = from_words(self._now.rows(check_ids(ids, "ids"), self._n_words), self._n_bytes)
        return rows[0] if np.ndim(ids) == 0 else rows

    def stats(self) -> IndexStats:
        """Describe the index: sizes, structure, kernel, and how queries were answered."""
        now, kernel = self._now, backend.active()
        return IndexStats(
            codes=now.n_codes,
            bits=self._bits,
            levels=dict(self._levels),
            structure=self.structure,
            segments=[SegmentStats.of(segment, kernel) for segment in now.segments],
            nbytes=sum(segment.nbytes for segment in now.segments),
            reserved_bytes=sum(segment.reserved_bytes for segment in now.segments),
            readonly=self.readonly,
            kernel=kernel.name,
        )

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
        if ids is None:
            return self._change(lambda now: self._appended(now, words))
        given = check_ids(ids, "ids")
        if len(given) != n:
            raise ValueError(f"ids must have one entry a code: {n}, got {len(given)}")
        if np.any(given == PAD_ID):
            raise ValueError("ids must not contain -1, which marks padding in answers")
        order = check_unique(given)
        ordered, words = (given, words) if order is None else (given[order], words[order])

        def change(now: Snapshot) -> tuple[Snapshot, None]:
            taken = now.taken(ordered)
            if len(taken):
                raise ValueError(f"id {int(taken[0])} is already in the index; use update() to replace its code")
            return now.added(words, ordered), None

        self._change(change)
        return given

    def _appended(self, now: Snapshot, words: Words) -> tuple[Snapshot, Ids]:
        """Give the next free ids to words."""
        first, n = now.next_id, len(words)
        if first + n - 1 > MAX_ID:
            raise ValueError(f"ids must be given: the next free id, {first}, leaves no room for {n}")
        ids = np.arange(first, first + n, dtype=np.int64)
        return now.added(words, ids), ids

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
        wanted = check_ids(ids, "ids")
        words = to_words(np.atleast_2d(check_codes(codes, self._bits, "codes")))
        if len(words) != len(wanted):
            raise ValueError(f"codes must have one row an id: {len(wanted)}, got {len(words)}")
        order = check_unique(wanted)
        wanted, words = (wanted, words) if order is None else (wanted[order], words[order])
        self._change(lambda now: (now.updated(words, wanted), None))

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
        wanted = ascending(check_ids(ids, "ids"))
        self._change(lambda now: (now.removed(wanted), None))

    def optimize(self, *, threads: int | None = None) -> None:
        """Compact the index now, and build the clustered search structure if it would help.

        Otherwise both are done as the index is used. Codes can be searched and changed meanwhile.

        Parameters
        ----------
        threads : int, optional
            As in `search`.
        """
        n_threads = backend.threads(threads)
        self._change(lambda now: (now.compacted(), None))
        if self.structure != "flat":
            self._rings.reconsider()
            self._build_ring(backend.active(), n_threads)

    def snapshot(self) -> Index:
        """Return what is in the index now as an index that cannot change, at once: both share the memory.

        Examples
        --------
        >>> import numpy as np, pyhash
        >>> index = pyhash.Index(bits=8)
        >>> before = index.snapshot()
        >>> index.add(np.array([[7]], dtype=np.uint8))
        array([0])
        >>> len(before), len(index)
        (0, 1)
        """
        twin = self._twin()
        twin._now, twin._rings, twin._reader = self._now, self._rings, self._reader
        twin._origin = self if self._origin is None else self._origin
        return twin

    def _twin(self) -> Index:
        return type(self)(levels=self._levels, structure=self.structure)

    def _change(self, change: Callable[[Snapshot], tuple[Snapshot, _T]]) -> _T:
        """Store what a change makes of the index as it is; whatever can fail comes before the store."""
        if self._reader is not None:
            raise ValueError("the index is mapped from a file and read-only; open it with mmap=False to change it")
        if self._origin is not None:
            raise ValueError("the index is a snapshot and read-only; change the index it was taken from, or a copy")
        return self._writer.alone(lambda: self._store(change))

    def _store(self, change: Callable[[Snapshot], tuple[Snapshot, _T]]) -> _T:
        now, answer = change(self._now)
        self._now = now
        return answer

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
            check_room(k, len(words))
        terms = measure.terms(self._levels, level, weights)
        metric = None if terms is None else self._metric(kernel, terms)
        if cascade is not None:
            coarse, n_candidates = self._check_cascade(cascade)
            target = self._target(kernel, self._now, where, len(words))
            coarse_metric = None if coarse is None else self._metric(kernel, coarse)
            distances, ids = cascaded(kernel, target, words, coarse_metric, n_candidates, metric, k, n_threads)
        else:
            now = self._current(kernel, len(words), n_threads) if terms is None and where is None else self._now
            target = self._target(kernel, now, where, len(words))
            distances, ids = kernel.topk(target.views, words, metric, k, target.allowed, n_threads)
        return Hits(distances[0], ids[0]) if single else Hits(distances, ids)

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
        metric = None if terms is None else self._metric(kernel, terms)
        now = self._current(kernel, len(words), n_threads) if terms is None and where is None else self._now
        target = self._target(kernel, now, where, len(words))
        try:
            return Ranges(*kernel.within(target.views, words, metric, radius, target.allowed, n_threads))
        except MemoryError:
            raise too_many(radius) from None

    def pairs(
        self,
        radius: int,
        other: Index | None = None,
        *,
        level: str | None = None,
        weights: Mapping[str, int] | None = None,
        threads: int | None = None,
    ) -> Pairs:
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
        terms = measure.terms(self._levels, level, weights)
        metric = None if terms is None else self._metric(kernel, terms)
        own = everything(kernel, self._now).views
        others = None if other is None else everything(kernel, other._now).views
        try:
            return Pairs(*kernel.pairs(own, others, metric, radius, n_threads))
        except MemoryError:
            raise too_many(radius) from None

    def _metric(self, kernel: Kernel, terms: measure.Terms) -> Metric:
        """Return the kernel's metric for these terms, made once."""
        key = type(kernel), terms
        metric = self._metrics.get(key)
        if metric is None:
            if len(self._metrics) >= _MAX_METRICS:
                self._metrics = {}
            metric = self._metrics[key] = measure.metric(kernel, self._n_bytes, terms)
        return metric

    def _check_cascade(self, cascade: tuple[str, int]) -> tuple[measure.Terms | None, int]:
        if not isinstance(cascade, (tuple, list)) or len(cascade) != 2:
            raise TypeError(f"cascade must be a pair (level, number of candidates), got {cascade!r}")
        level, n_candidates = cascade
        measure.check_level(self._levels, level, "cascade")
        return measure.terms(self._levels, level, None), check_int(n_candidates, "cascade's number of candidates", 1)

    def _current(self, kernel: Kernel, n_queries: int, threads: int) -> Snapshot:
        """Count a search of all codes; return what to search, with a ring if it was time to build one."""
        if self._reader is None and self._rings.wanted(kernel, self._now, n_queries):
            self._build_ring(kernel, threads)
        return self._now

    def _build_ring(self, kernel: Kernel, threads: int) -> None:
        """Build a ring, while others search and change the index."""
        if self._writer.busy_here():  # a signal handler that searches in the middle of a change: not now
            return
        built = self._rings.build(kernel, self._now, threads)
        if built is not None:
            for index in (self, self._origin):
                if index is not None and not index._writer.busy_here():
                    index._install(*built)

    def _install(self, first: Segment, ring: Segment) -> None:
        self._writer.alone(lambda: self._store(lambda now: (now.with_ring(first, ring), None)))

    def _target(self, kernel: Kernel, now: Snapshot, where: ArrayLike | None, n_queries: int) -> Target:
        """Return what to search."""
        return everything(kernel, now) if where is None else only(kernel, now, check_where(where, len(now)), n_queries)

    # Files, bytes, copies

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

    def to_bytes(self) -> bytes:
        """Return the content of the file that `save` would write."""
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
        """Check a mapped file, its checksums and what it says; CorruptIndexError when it is damaged."""
        if self._reader is not None:
            self._reader.verify()
            self._check_sense(self._reader)

    def _check_sense(self, reader: _file.Reader) -> None:
        problem = nonsense(self._now, self._bits)
        if problem is not None:
            raise reader.failure(problem)

    def __bytes__(self) -> bytes:
        return self.to_bytes()

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return type(self).from_bytes, (self.to_bytes(),)

    def __copy__(self) -> Index:
        if self._reader is not None:  # a copy can change, so what it holds must be whole
            return type(self).from_bytes(self.to_bytes())
        twin = self._twin()
        twin._now = self._now.copy()
        return twin

    def _content(self) -> tuple[dict[str, Any], list[_file.Section]]:
        return _file.content(self._levels, self.structure, self._now)

    @classmethod
    def _from_reader(cls, reader: _file.Reader, *, readonly: bool) -> Index:
        levels, structure, now = reader.index()
        with reader.expecting_sense():
            index = cls(levels=levels, structure=structure)
        index._now = now
        if readonly:
            index._reader = reader
        else:
            index._check_sense(reader)
        return index
