"""All rows of a gallery, to be searched: read from its database, or mapped from files beside it that were made of it.

The database is the truth. It notes the set of mapped files that was made of it last, with the revision that they are
of: what it notes belongs to its own past, whatever became of it since, and files that it does not note are nobody's.
A database that was restored, or that lies where another lay, does not note the files of the other.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels
from ..errors import CorruptIndexError, GalleryError, PyhashError
from ..heads import CollectionHead
from ..index import Index
from . import mapped
from .collection import Collection, Part, vectors_of
from .mapped import Array, Layout, MappedFileError
from .opening import is_writable
from .packed import Packed, ends_of, text_of
from .parts import Parts
from .records import Identity, StoredHead
from .store import GalleryFile

_log = logging.getLogger("pyhash")
_MAPPED_FROM = 10_000  # rows: fewer are loaded in a moment
_SMALL_DIFFERENCE = 4096  # rows, and a 64th of all: so many are loaded beside the mapped ones in a moment
_LARGE_DIFFERENCE = 8192  # rows, and a 16th of all: with more beside them, all are loaded anew
_REVISIONS = 512  # of the difference: half of what the database tells
_ATTEMPTS = 3  # to make mapped files that are not damaged


@dataclass(frozen=True)
class State:
    """All rows at one revision."""

    revision: int
    index: Index
    """May be changed."""
    paths: Packed
    """Of images, by their ids."""
    parts: Parts
    collection: Collection | None
    n_changed: int = 0
    """Rows that are beside the others, because they came or changed since all were loaded."""
    token: str | None = None
    """Of the mapped files; None where all is in memory."""


class Noted(NamedTuple):
    """What a database notes of the mapped files that were made of it."""

    token: str
    revision: int
    head: int
    vectors: tuple[str, ...]
    """Names of what similarities are products of; none where there are no embeddings."""
    highest: int
    arrays: tuple[Layout, ...]

    @classmethod
    def of(cls, text: object) -> Noted | None:
        """Read a note."""
        try:
            fields = json.loads(text)  # type: ignore[arg-type]
            arrays = tuple(Layout(n, d, tuple(shape), crc) for n, d, shape, crc in fields["arrays"])
            return cls(**{**fields, "vectors": tuple(fields["vectors"]), "arrays": arrays})
        except (KeyError, TypeError, ValueError):
            return None

    def text(self) -> str:
        """What is noted."""
        return json.dumps(self._asdict())


class Loader:
    """Loads the rows of one open gallery file."""

    def __init__(self, file: GalleryFile) -> None:
        self._file = file
        self._doubted: set[str] = set()  # sets of files that were damaged
        self._to_note: Noted | None = None
        self._begun: tuple[object, threading.Thread] | None = None  # in place of what mapped files are written

    @property
    def folder(self) -> Path:
        """Where mapped files lie."""
        return mapped_folder(self._file.path)

    def state(self, identity: Identity, stored: StoredHead) -> State:
        """Load all rows, inside a transaction; those of mapped files may be of an earlier revision, from which the
        database tells the difference.
        """
        head = head_of(stored, identity)
        noted = _usable(self._file, identity, stored)
        if noted is not None and noted.token not in self._doubted:
            try:
                return _mapped(self.folder, noted, head, identity)
            except MappedFileError as error:
                self.doubt(noted.token, error)
        if len(self._doubted) < _ATTEMPTS and is_writable(self._file.path) and _are_many(self._file):
            try:
                self._to_note = write(self._file, identity, stored, self.folder)
                return _mapped(self.folder, self._to_note, head, identity)
            except (OSError, MappedFileError) as error:  # no room, no right to write: it is done without
                _log.info("no mapped files beside the gallery %s: %s", self._file.path, error)
        loaded = _Loaded()
        index = _load(self._file, identity, stored, head, loaded)
        _log.info("loaded the gallery %s: %d codes", self._file.path, len(index))
        return loaded.state(self._file.revision(), index, head)

    def begin(self, identity: Identity, stored: StoredHead) -> bool:
        """Begin to write mapped files of many rows in a thread; whether they are being written.

        When the database notes them, its version is another. Where they cannot be written, it is not tried again.
        """
        if not (is_writable(self._file.path) and _are_many(self._file)) or _usable(self._file, identity, stored):
            return False
        wanted = stored.id, self._file.mapped()
        if self._begun is None or self._begun[0] != wanted:
            thread = threading.Thread(target=keep, args=(self._file.path,), daemon=True)
            thread.start()
            self._begun = wanted, thread
        return self.is_writing()

    def is_writing(self) -> bool:
        """Whether mapped files are being written in a thread."""
        return self._begun is not None and self._begun[1].is_alive()

    def note(self) -> None:
        """After the transaction: have the database note the mapped files that were written in it."""
        noted, self._to_note = self._to_note, None
        if noted is not None:
            note(self._file, self.folder, noted, seconds=0.1)  # a search does not wait for who writes

    def doubt(self, token: str, error: MappedFileError) -> None:
        """Do without a set of files from now on."""
        if token not in self._doubted:
            _log.warning("mapped files of the gallery %s are made anew: %s", self._file.path, error)
        self._doubted.add(token)


def mapped_folder(path: Path) -> Path:
    """Where the mapped files of a gallery's file lie."""
    return path.with_name(f"{path.name}.mapped")


def head_of(stored: StoredHead | None, identity: Identity) -> CollectionHead | None:
    """The head fitted on the collection; None where codes are the encoder's own."""
    if stored is None or stored.matrix is None:
        return None
    head = CollectionHead.from_bytes(stored.matrix)
    if dict(head.levels) != identity.levels:
        raise ValueError(f"its levels are {identity.levels}, but those of its head {dict(head.levels)}")
    return head


def too_many(n_changed: int, n_rows: int) -> bool:
    """Whether so many rows beside the others are better loaded with them."""
    return n_changed > _LARGE_DIFFERENCE + n_rows // 16


def can_collect(file: GalleryFile, head: StoredHead, identity: Identity) -> bool:
    """Whether every row has an embedding, and codes know no more."""
    if (head.matrix is None and identity.by_labels) or not file.vectors.any():
        return False
    return file.vectors.count() == file.counts().rows


def _are_many(file: GalleryFile) -> bool:
    return file.has_codes(_MAPPED_FROM)


def _usable(file: GalleryFile, identity: Identity, stored: StoredHead) -> Noted | None:
    """What is noted of mapped files, where a difference is told that is small enough."""
    noted = Noted.of(file.mapped())
    if noted is None or noted.head != stored.id:
        return None
    if not noted.vectors and can_collect(file, stored, identity):
        return None
    changed = file.changed_since(noted.revision)
    return None if changed is None or too_many(changed, noted.arrays[0].shape[0]) else noted


# Keeping them


def keep(path: Path) -> None:
    """Write mapped files anew where what the database notes has become much older than its rows; whoever has opened the
    gallery goes on meanwhile. What goes wrong is logged: nothing depends on them.
    """
    if not is_writable(path):
        return
    try:
        with closing(GalleryFile(path)) as file:
            with file.reading():
                identity, stored = file.identity(), file.vectors.head()
                many, wanted = _are_many(file), None
                if many and identity is not None and stored is not None:
                    if not _is_due(file, identity, stored):
                        return
                    wanted = write(file, identity, stored, mapped_folder(path))
                few = not many and file.mapped() is not None
            if wanted is not None:
                note(file, mapped_folder(path), wanted)
            elif few:
                drop(file)
    except (OSError, ValueError, PyhashError, MappedFileError) as error:
        _log.warning("mapped files beside the gallery %s could not be written: %s", path, error)


def _is_due(file: GalleryFile, identity: Identity, stored: StoredHead) -> bool:
    noted = _usable(file, identity, stored)
    if noted is None:
        return True
    changed = file.changed_since(noted.revision) or 0
    old = file.revision() - noted.revision > _REVISIONS
    return old or changed > _SMALL_DIFFERENCE + noted.arrays[0].shape[0] // 64


def drop(file: GalleryFile) -> list[Path]:
    """Delete all mapped files; return what cannot be deleted now, as on Windows what others have mapped."""
    file.note_mapped(None)
    return mapped.remove_others(mapped_folder(file.path), None, at_once=True)


def note(file: GalleryFile, folder: Path, noted: Noted, seconds: float | None = None) -> None:
    """Have a database note a set of files in place of another one, which is deleted."""
    try:
        before = Noted.of(file.note_mapped(noted.text(), made_of=noted.revision, seconds=seconds))
    except GalleryError as error:
        _log.info("mapped files beside the gallery %s are not kept: %s", file.path, error)
        mapped.remove(folder, noted.token)
        return
    if before is not None:
        mapped.remove(folder, before.token)
    mapped.remove_others(folder, noted.token)


def damage(file: GalleryFile) -> list[str]:
    """Look at the mapped files that a database notes, inside a transaction; say what is wrong with them. Files that are
    gone are no harm.
    """
    noted, folder, wrong = Noted.of(file.mapped()), mapped_folder(file.path), []
    if noted is None:
        return []
    there = {path.name for path, _ in mapped.sizes(folder)}
    for layout in noted.arrays:
        if f"{noted.token}.{layout.name}" in there:
            try:
                mapped.open_array(folder, noted.token, layout).whole()
            except MappedFileError as error:
                wrong.append(str(error))
    if f"{noted.token}.codes" in there:
        try:
            Index.open(mapped.path_of(folder, noted.token, "codes"), mmap=True, readonly=False)
        except (CorruptIndexError, OSError) as error:
            wrong.append(str(error))
    return wrong


# Reading and writing


class _Into(Protocol):
    """What takes arrays, bit by bit."""

    def add(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows to an array."""


class _Loaded:
    """Arrays in memory."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = {}

    def add(self, name: str, rows: NDArray[Any]) -> None:
        self._parts.setdefault(name, []).append(rows)

    def state(self, revision: int, index: Index, head: CollectionHead | None) -> State:
        arrays = {name: mapped.in_memory(self._parts.pop(name)) for name in [*self._parts]}
        return _state(revision, index, head, arrays, _names(arrays, head), None)


def _names(arrays: Iterable[str], head: CollectionHead | None) -> tuple[str, ...]:
    if "vectors.0" not in arrays:
        return ()
    labelled = () if head is None else tuple(level for level, made in head.made_of.items() if made == "labels")
    return ("own", *labelled)


def _load(file: GalleryFile, identity: Identity, stored: StoredHead, head: CollectionHead | None, into: _Into) -> Index:
    """Read all rows, a few at a time; return their codes."""
    index = Index(levels=identity.levels)
    collects = can_collect(file, stored, identity)
    end = n_images = 0
    into.add("path_ends", np.zeros(1, np.int64))
    for rows in file.rows(index.levels.n_bytes):
        index.add(rows.codes, ids=rows.ids)
        into.add("ids", rows.ids)
        into.add("images", rows.images)
        ends = ends_of(rows.paths, end)
        into.add("path_ends", ends[1:])
        into.add("path_text", text_of(rows.paths))
        end, n_images = int(ends[-1]), n_images + len(rows.images)
        if not collects:
            continue
        between = int(rows.ids[0]), int(rows.ids[-1])
        embeddings, lists = file.vectors.embeddings(between=between), file.vectors.neighbours(between=between)
        if not np.array_equal(embeddings.ids, rows.ids):
            raise ValueError("a row has two embeddings")
        vectors = {name: some.vectors for name, some in vectors_of(head, embeddings.vectors, embeddings.norms).items()}
        part = Part.of(rows.ids, vectors, lists)
        for number, name in enumerate(vectors):
            into.add(f"vectors.{number}", vectors[name])
        into.add("near", part.near.whole())
        into.add("weights", part.weights.whole())
        into.add("listed", part.listed)
    parts = file.parts.coded()
    if n_images + len(parts.ids) != len(index):
        raise ValueError("some of its codes belong to no image")
    into.add("part_ids", parts.ids)
    into.add("part_images", parts.images)
    into.add("part_ends", ends_of(parts.texts))
    into.add("part_text", text_of(parts.texts))
    return index


def _state(
    revision: int,
    index: Index,
    head: CollectionHead | None,
    arrays: dict[str, Array],
    names: tuple[str, ...],
    noted: Noted | None,
) -> State:
    nothing = Array(np.empty(0, np.int64)), Array(np.empty(0, np.uint8))
    ids, images = (arrays.get(name, nothing[0]).whole() for name in ("ids", "images"))
    paths = Packed(images, arrays["path_ends"], arrays.get("path_text", nothing[1]))
    of_parts, images_of_parts = arrays["part_ids"].whole(), arrays["part_images"].whole()
    parts = Parts(of_parts, images_of_parts, Packed(of_parts, arrays["part_ends"], arrays["part_text"]))
    collection = None
    if names:
        near = arrays["near"]
        highest = max(ids.max(), near.whole().max()) if noted is None else noted.highest
        vectors = {name: arrays[f"vectors.{number}"] for number, name in enumerate(names)}
        part = Part(ids, vectors, near, arrays["weights"], arrays["listed"].whole(), int(highest))
        collection = Collection.of(head, part)
    return State(revision, index, paths, parts, collection, token=None if noted is None else noted.token)


class _Highest:
    """Passes arrays on, and notes the highest id among them."""

    def __init__(self, writer: mapped.Writer) -> None:
        self._writer = writer
        self.highest = -1

    def add(self, name: str, rows: NDArray[Any]) -> None:
        if name in ("ids", "near"):
            self.highest = max(self.highest, int(rows.max(initial=-1)))
        self._writer.add(name, rows)


def write(file: GalleryFile, identity: Identity, stored: StoredHead, folder: Path) -> Noted:
    """Write all rows into a new set of mapped files, inside a transaction."""
    head = head_of(stored, identity)
    with mapped.Writer(folder) as writer:
        into = _Highest(writer)
        index = _load(file, identity, stored, head, into)
        index.save(writer.path("codes"))
        layouts = sorted(writer.finish(), key=lambda layout: layout.name != "ids")
    _log.info("wrote mapped files beside the gallery %s: %d codes", file.path, len(index))
    names = _names([layout.name for layout in layouts], head)
    return Noted(writer.token, file.revision(), stored.id, names, into.highest, tuple(layouts))


def _mapped(folder: Path, noted: Noted, head: CollectionHead | None, identity: Identity) -> State:
    """Open a set of mapped files."""
    codes = mapped.path_of(folder, noted.token, "codes")
    try:
        index = Index.open(codes, mmap=True, readonly=False)
    except (CorruptIndexError, OSError) as error:
        raise MappedFileError(f"{codes} cannot be read: {error}") from error
    arrays = {layout.name: mapped.open_array(folder, noted.token, layout) for layout in noted.arrays}
    if index.levels != Levels(identity.levels) or len(index) != len(arrays["ids"]):
        raise MappedFileError(f"{os.fspath(codes)} is of other rows")
    return _state(noted.revision, index, head, arrays, noted.vectors, noted)
