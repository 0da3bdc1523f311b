"""What a search of a gallery runs on: one state of its file that never changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels
from ..errors import CorruptHeadError
from ..heads import CollectionHead
from ..index import Index
from ..support import locked
from .collection import Collection
from .loading import Loader, State, can_collect, head_of, too_many
from .mapped import MappedFileError
from .packed import Packed
from .parts import NO_PARTS, Parts
from .records import Difference, Identity, StoredHead
from .store import GalleryFile

T = TypeVar("T")


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
    state: State
    """What it was made of."""
    identity: Identity | None = None
    """Of the encoder."""
    is_old: bool = False
    """Whether the file holds a later state, which is loaded meanwhile."""

    @cached_property
    def images(self) -> NDArray[np.int64]:
        """Ids of the images, which are those of the rows that are wholes."""
        return self.parts.wholes(self.index.ids)


class Snapshots:
    """The newest snapshot of a gallery file. Whoever finds that the file has changed loads the difference."""

    def __init__(self, file: GalleryFile, empty: Callable[[], Index]) -> None:
        self._file = file
        self._empty = empty  # makes the index of a gallery into which nothing was ever stored
        self._loader = Loader(file)
        self._now: Snapshot | None = None
        self._waits = False  # whether the next one has to be the newest
        self._is_whole = False  # whether the index that `_now` is a snapshot of is as it was then
        self._lock = threading.RLock()

    def now(self, *, newest: bool = False) -> Snapshot:
        """The state of the file as it is now; no lock is taken unless it has changed.

        Where another process has coded all of many images anew, it may be the state before that, until all are loaded,
        unless it has to be the `newest`.
        """
        now = self._now
        is_late = now is None or now.version != self._file.version()
        if now is None or is_late or (now.is_old and (newest or self._waits or not self._loader.is_writing())):
            now = locked(self._lock, lambda: self._renew(newest or self._waits))
        return now

    def wait(self) -> None:
        """Have the next one be the newest, because this process has made it."""
        self._waits = True

    def ask(self, question: Callable[[Snapshot], T], *, newest: bool = False) -> T:
        """Answer from the state as it is now; from one that is loaded anew where a mapped file is damaged."""
        while True:
            now = self.now(newest=newest)
            try:
                return question(now)
            except MappedFileError as error:
                self._doubt(now, error)

    def _doubt(self, now: Snapshot, error: MappedFileError) -> None:
        """Do without the mapped files that a snapshot is made of."""
        if now.state.token is None:
            raise error

        def forget() -> None:
            self._loader.doubt(now.state.token or "", error)
            if self._now is not None and self._now.state.token == now.state.token:
                self._now = None

        locked(self._lock, forget)

    def _renew(self, newest: bool) -> Snapshot:
        while True:
            version = self._file.version()  # before anything is read: if that is newer, it is looked at once more
            now = self._now
            if now is not None and now.version == version and not now.is_old:
                return now  # another thread was first
            whole, self._is_whole = self._is_whole, False  # an interrupt leaves an index that is half changed
            try:
                made = self._made(version, now if whole else None, newest)
            except MappedFileError as error:
                assert now is not None
                self._doubt(now, error)
                continue
            self._now, self._is_whole = made, True
            self._waits = self._waits and made.is_old
            self._loader.note()
            return made

    def _made(self, version: int, now: Snapshot | None, newest: bool) -> Snapshot:
        with self._file.reading():
            revision, identity = self._file.revision(), self._file.identity()
            try:
                stored = self._file.vectors.head()
                if identity is None or stored is None:
                    nothing = np.empty(0, np.int64)
                    paths, parts = Packed.pack(nothing, []), Parts.of(NO_PARTS)
                    state = State(revision, self._empty(), paths, parts, None)
                    return Snapshot(version, revision, state.index.snapshot(), paths, parts, stored, None, None, state)
                difference, n_bytes = None, Levels(identity.levels).n_bytes
                if now is not None and now.stored_head == stored:
                    head, state = now.head, now.state
                    difference = self._difference(state, identity, stored, n_bytes)
                if difference is None and now is not None and not newest and self._goes_on(now, identity, stored):
                    return replace(now, version=version, is_old=True)
                if difference is None:
                    state = self._loader.state(identity, stored)
                    head = head_of(stored, identity)
                    difference = self._file.difference(state.revision, n_bytes)
                    assert difference is not None
                state = self._changed(state, difference, revision)
            except (ValueError, CorruptHeadError) as error:
                raise self._file.damaged(str(error)) from error
        collection = state.collection
        if head is None and identity.by_labels:
            collection = None
        if collection is not None and not len(collection) == len(state.index) > 0:
            collection = None  # there are none, or some wait for their embeddings: no answer can be ordered by them
        index = state.index.snapshot()
        return Snapshot(version, revision, index, state.paths, state.parts, stored, head, collection, state, identity)

    def _goes_on(self, now: Snapshot, identity: Identity, stored: StoredHead) -> bool:
        """Whether a state goes on to answer while all is loaded anew: one of the same embeddings under another head."""
        if now.identity is None or now.stored_head is None or now.stored_head.id == stored.id:
            return False
        same = now.identity._replace(levels={}) == identity._replace(levels={})
        return same and self._loader.begin(identity, stored)

    def _difference(self, state: State, identity: Identity, stored: StoredHead, n_bytes: int) -> Difference | None:
        """What became of the rows since a state; None where all have to be loaded anew."""
        changed = self._file.changed_since(state.revision)
        if changed is None:
            return None
        if too_many(state.n_changed + changed, len(state.index)) and not self._loader.begin(identity, stored):
            return None
        if state.collection is None and can_collect(self._file, stored, identity):
            return None
        return self._file.difference(state.revision, n_bytes)

    def _changed(self, state: State, difference: Difference, revision: int) -> State:
        rows, gone = difference
        if not len(rows.ids) and not len(gone):
            return replace(state, revision=revision)
        collection, tables = state.collection, self._file.vectors
        if collection is not None:
            embeddings, lists = tables.embeddings(state.revision), tables.neighbours(state.revision)
            complete = len(embeddings.ids) == len(rows.ids)
            collection = collection.changed(embeddings, lists, gone) if complete else None
        index = state.index
        index.remove(gone[index.contains(gone)])
        known = index.contains(rows.ids)
        index.update(rows.ids[known], rows.codes[known])
        index.add(rows.codes[~known], ids=rows.ids[~known])
        n_changed = state.n_changed + len(rows.ids) + len(gone)
        paths = state.paths.changed(rows.images, rows.paths)
        parts = state.parts.changed(self._file.parts.coded(state.revision), gone)
        return State(revision, index, paths, parts, collection, n_changed, state.token)
