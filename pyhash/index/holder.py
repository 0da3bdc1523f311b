"""What an index holds: codes and ids, their changes, and the file they come from and go to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import backend
from ..backend import PAD_ID, Kernel, Metric
from ..backend import metric as measure
from ..codes import Levels, check_codes, check_int, from_words, to_words, words_per_code
from ..support import memory
from . import file as _file
from .checks import MAX_ID, check_ids, in_order
from .chunks import Words
from .rings import Rings, Structure
from .search import ascending
from .segment import Ids, Segment
from .sense import nonsense
from .snapshot import Snapshot
from .stats import IndexHeader, IndexStats, SegmentStats
from .writer import Writer

_STRUCTURES = ("auto", "flat", "ring")

Codes = NDArray[np.uint8]
_T = TypeVar("_T")


class Holder:
    """An index without its searches. `pyhash.Index` is one with them, and documents what it takes."""

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
        self._origin: Holder | None = None  # whose snapshot this is

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

    def contains(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Say which ids are in the index.

        Parameters
        ----------
        ids : int or array_like of int, (n,)

        Returns
        -------
        ndarray of bool, (n,)

        Examples
        --------
        >>> import numpy as np, pyhash
        >>> index = pyhash.Index(bits=8)
        >>> index.add(np.array([[7]], dtype=np.uint8))
        array([0])
        >>> index.contains([0, 1])
        array([ True, False])
        """
        return self._now.has(check_ids(ids, "ids"))

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
        wanted = check_ids(ids, "ids")
        n = len(wanted)
        # As words, once where they lie and once in the order asked for; places; and bytes where words are padded.
        n_bytes = n * (16 * self._n_words + 64 + self._n_bytes)
        memory.ask(n_bytes, "ids must be fewer at a time", "%d codes", n)
        rows = from_words(self._now.rows(wanted, self._n_words), self._n_bytes)
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
        ordered, words = in_order(given, words)

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
        wanted, words = in_order(wanted, words)
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

    def snapshot(self) -> Self:
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

    def _twin(self) -> Self:
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
    def open(cls, path: str | os.PathLike[str], mmap: bool = False, *, readonly: bool | None = None) -> Self:
        """Open an index file.

        Parameters
        ----------
        path : path
            A file written by `save`.
        mmap : bool
            Map the file instead of reading it: opens at once whatever its size, shares memory between processes, and
            is read-only. The header is checked now, the codes by `verify`. Replace such a file by renaming another
            onto it, as `save` does; one that is cut short in place ends every process that has it mapped (SIGBUS).
        readonly : bool, optional
            Whether the index cannot change; unless given, what is mapped cannot. A mapped index that can is checked
            now, all of it; its changes are in memory alone, beside the file, which stays as it is.

        Raises
        ------
        CorruptIndexError
            When the file is damaged, cut short, or not an index.
        OSError
            When it cannot be read.
        """
        reader, frozen = _file.Reader.open(path, mmap), mmap if readonly is None else readonly
        if not (mmap and frozen):
            reader.verify()
        index = cls._from_reader(reader, readonly=frozen)
        if mmap and not frozen:
            index._now = index._now.copy()  # what would be written to lies in memory
        return index

    @classmethod
    def header(cls, path: str | os.PathLike[str]) -> IndexHeader:
        """Return what an index file holds without reading its codes, at once whatever its size.

        Parameters
        ----------
        path : path
            A file written by `save`.

        Returns
        -------
        IndexHeader
            Version of the format, levels, structure, number of codes, size. The codes themselves are not checked:
            that is for `open`, or `verify`.

        Raises
        ------
        CorruptIndexError
            When the header is damaged, the file cut short, or not an index.
        OSError
            When it cannot be read.

        Examples
        --------
        >>> import os, tempfile, pyhash
        >>> path = os.path.join(tempfile.mkdtemp(), "animals.index")
        >>> pyhash.Index(levels={"coarse": 16, "fine": 48}).save(path)
        >>> header = pyhash.Index.header(path)
        >>> header.codes, header.bits, dict(header.levels)
        (0, 64, {'coarse': 16, 'fine': 48})
        """
        reader = _file.Reader.open(path, mmap=True)
        index = cls._from_reader(reader, readonly=True)
        segments = index._now.segments
        return IndexHeader(
            version=_file.VERSION,
            levels=index.levels,
            structure=index.structure,
            codes=len(index),
            removed=sum(segment.n_removed for segment in segments),
            clusters=sum(len(segment.ring.least) for segment in segments if segment.ring is not None),
            nbytes=reader.nbytes,
        )

    def to_bytes(self) -> bytes:
        """Return the content of the file that `save` would write."""
        return _file.dump(*self._content())

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
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

    def __copy__(self) -> Self:
        if self._reader is not None:  # a copy can change, so what it holds must be whole
            return type(self).from_bytes(self.to_bytes())
        twin = self._twin()
        twin._now = self._now.copy()
        return twin

    def _content(self) -> tuple[dict[str, Any], list[_file.Section]]:
        return _file.content(self._levels, self.structure, self._now)

    @classmethod
    def _from_reader(cls, reader: _file.Reader, *, readonly: bool) -> Self:
        levels, structure, now = reader.index()
        with reader.expecting_sense():
            index = cls(levels=levels, structure=structure)
        index._now = now
        if readonly:
            index._reader = reader
        else:
            index._check_sense(reader)
        return index
