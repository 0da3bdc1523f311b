"""What a search of a gallery runs on: one state of its file, in memory, that never changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptHeadError
from ..heads import CollectionHead
from ..index import Index
from ..support import locked
from .collection import Collection
from .packed import Packed
from .parts import Parts
from .records import Difference, StoredHead
from .store import GalleryFile

_log = logging.getLogger("pyhash")


@dataclass(frozen=True)
class Snapshot:
    """One state of a gallery."""

    version: int
    """What `GalleryFile.version` said before it was loaded."""
    revision: int
    index: Index
    """Read-only, under the ids of rows; that of an image's whole is the image's own."""
    paths: Packed
    """Of images, by their ids."""
    parts: Parts
    stored_head: StoredHead | None
    """None before the first image."""
    head: CollectionHead | None
    """The head fitted on the collection; None where codes are the encoder's own."""
    collection: Collection | None
    """Embeddings of all rows; None where any has none, or where codes know more: those of a head fitted with labels."""

    @cached_property
    def images(self) -> NDArray[np.int64]:
        """Ids of the images, which are those of the rows that are wholes."""
        return self.parts.wholes(self.index.ids)


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
                stored = self._file.vectors.head()
                difference = None
                if now is not None and index is not None and identity and stored == now.stored_head:
                    difference = self._file.difference(now.revision, index.levels.n_bytes)
                if now is not None and index is not None and difference is not None:
                    head, collection = now.head, self._changed(now, difference)
                    _apply(difference, index)
                    parts = now.parts.changed(self._file.parts.coded(now.revision), difference.gone)
                    rows = difference.rows
                    paths = now.paths.changed(rows.images, rows.paths, parts.wholes(index.ids))
                else:
                    index = self._empty() if identity is None else Index(levels=identity.levels)
                    paths = _load(self._file, index)
                    parts = Parts.of(self._file.parts.coded())
                    if len(paths) + len(parts) != len(index):
                        raise ValueError("some of its codes belong to no image")
                    head = None if stored is None or stored.matrix is None else CollectionHead.from_bytes(stored.matrix)
                    if head is not None and head.levels != index.levels:
                        raise ValueError(
                            f"its levels are {dict(index.levels)}, but those of its head {dict(head.levels)}"
                        )
                    collection = self._collection(head, len(index))
                    _log.info("loaded the gallery %s: %d codes", self._file.path, len(index))
                if head is None and identity is not None and identity.by_labels:
                    collection = None
                if collection is not None and len(collection) != len(index):
                    collection = None  # some wait for their embeddings: no answer can be ordered by them
            except (ValueError, CorruptHeadError) as error:
                raise self._file.damaged(str(error)) from error
        now = Snapshot(version, revision, index.snapshot(), paths, parts, stored, head, collection)
        self._growing, self._now = index, now
        return now

    def _collection(self, head: CollectionHead | None, n_rows: int) -> Collection | None:
        if not n_rows or self._file.vectors.count() != n_rows:
            return None
        return Collection.build(head, self._file.vectors.embeddings(), self._file.vectors.neighbours())

    def _changed(self, now: Snapshot, difference: Difference) -> Collection | None:
        tables = self._file.vectors
        if now.collection is None:
            return self._collection(now.head, self._file.counts().rows)
        embeddings, lists = tables.embeddings(now.revision), tables.neighbours(now.revision)
        if len(embeddings.ids) != len(difference.rows.ids):
            return None
        return now.collection.changed(embeddings, lists, difference.gone)


def _load(file: GalleryFile, index: Index) -> Packed:
    """Add all rows to an empty index; return the paths of their images."""
    images: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    found: list[bytes] = []
    for rows in file.rows(index.levels.n_bytes):
        index.add(rows.codes, ids=rows.ids)
        images.append(rows.images)
        found += rows.paths
    return Packed.pack(np.concatenate(images), found)


def _apply(difference: Difference, index: Index) -> None:
    """Change the index."""
    rows, gone = difference
    index.remove(gone[_are_in(gone, index)])
    known = _are_in(rows.ids, index)
    index.update(rows.ids[known], rows.codes[known])
    index.add(rows.codes[~known], ids=rows.ids[~known])


def _are_in(ids: NDArray[np.int64], index: Index) -> NDArray[np.bool_]:
    held = index.ids
    slots = np.minimum(np.searchsorted(held, ids), max(0, len(held) - 1))
    return held[slots] == ids if len(held) else np.zeros(len(ids), bool)
