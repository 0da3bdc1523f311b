"""What a search of a gallery runs on: one state of its file, in memory, that never changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..index import Index
from ..support import locked
from .records import Difference, Rows
from .store import GalleryFile

_log = logging.getLogger("pyhash")
_FRESH_PATHS = 1024  # and an eighth of all: so many lie beside the others before they are put together


class Paths:
    """The paths of a gallery's rows, packed: bytes in one string, with the ids and the ends of each."""

    def __init__(self, ids: NDArray[np.int64], ends: NDArray[np.int64], text: bytes, fresh: dict[int, bytes]) -> None:
        self._ids, self._ends, self._text, self._fresh = ids, ends, text, fresh

    @classmethod
    def pack(cls, ids: NDArray[np.int64], paths: list[bytes]) -> Paths:
        """Pack the paths of ascending ids."""
        ends = np.cumsum([0, *map(len, paths)], dtype=np.int64)
        return cls(ids, ends, b"".join(paths), {})

    def of(self, ids: NDArray[np.int64]) -> list[bytes]:
        """The paths of ids that there are."""
        slots = np.searchsorted(self._ids, ids)
        begins, ends = self._ends[slots].tolist(), self._ends[np.minimum(slots + 1, len(self._ids))].tolist()
        paths = [self._text[begin:end] for begin, end in zip(begins, ends, strict=True)]
        if self._fresh:
            paths = [self._fresh.get(number, path) for number, path in zip(ids.tolist(), paths, strict=True)]
        return paths

    def changed(self, rows: Rows, index: Index) -> Paths:
        """Return the paths with those of some rows changed or added; only those in the index are still needed."""
        fresh = {**self._fresh, **dict(zip(rows.ids.tolist(), rows.paths, strict=True))}
        paths = Paths(self._ids, self._ends, self._text, fresh)
        if len(fresh) <= _FRESH_PATHS + len(self._ids) // 8:
            return paths
        return Paths.pack(index.ids, paths.of(index.ids))


@dataclass(frozen=True)
class Snapshot:
    """One state of a gallery."""

    version: int
    """What `GalleryFile.version` said before it was loaded."""
    revision: int
    index: Index
    """Read-only, under the ids of rows."""
    paths: Paths


class Snapshots:
    """The newest snapshot of a gallery file. Whoever finds that the file has changed loads the difference."""

    def __init__(self, file: GalleryFile, empty: Callable[[], Index]) -> None:
        self._file = file
        self._empty = empty  # makes the index of a gallery into which nothing was ever stored
        self._now: Snapshot | None = None
        self._growing: Index | None = None  # the index that `_now` is a snapshot of
        self._lock = threading.RLock()

    def now(self) -> Snapshot:
        """The state of the file as it is now; no lock is taken unless it has changed."""
        now = self._now
        if now is None or now.version != self._file.version():
            now = locked(self._lock, self._renew)
        return now

    def _renew(self) -> Snapshot:
        version = self._file.version()  # before anything is read: if that is newer, it is looked at once more
        now = self._now
        if now is not None and now.version == version:
            return now  # another thread was first
        index, self._growing = self._growing, None  # an interrupt leaves none that is half changed
        with self._file.reading():
            revision, identity = self._file.revision(), self._file.identity()
            try:
                difference = None
                if now is not None and index is not None and identity and dict(index.levels) == identity.levels:
                    difference = self._file.difference(now.revision, index.levels.n_bytes)
                if now is not None and index is not None and difference is not None:
                    paths = _apply(difference, index, now.paths)
                else:
                    index = self._empty() if identity is None else Index(levels=identity.levels)
                    paths = _load(self._file, index)
                    _log.info("loaded the gallery %s: %d codes", self._file.path, len(index))
            except ValueError as error:
                raise self._file.damaged(str(error)) from error
        now = Snapshot(version, revision, index.snapshot(), paths)
        self._growing, self._now = index, now
        return now


def _load(file: GalleryFile, index: Index) -> Paths:
    """Add all rows to an empty index; return their paths."""
    found: list[bytes] = []
    for rows in file.rows(index.levels.n_bytes):
        index.add(rows.codes, ids=rows.ids)
        found += rows.paths
    return Paths.pack(index.ids, found)


def _apply(difference: Difference, index: Index, paths: Paths) -> Paths:
    """Change the index; return the paths, changed likewise."""
    rows, gone = difference
    index.remove(gone[_are_in(gone, index)])
    known = _are_in(rows.ids, index)
    index.update(rows.ids[known], rows.codes[known])
    index.add(rows.codes[~known], ids=rows.ids[~known])
    return paths.changed(rows, index)


def _are_in(ids: NDArray[np.int64], index: Index) -> NDArray[np.bool_]:
    held = index.ids
    slots = np.minimum(np.searchsorted(held, ids), max(0, len(held) - 1))
    return held[slots] == ids if len(held) else np.zeros(len(ids), bool)
