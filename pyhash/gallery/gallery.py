"""Gallery: a folder of pictures that can be searched, kept in one SQLite file beside them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import GalleryError, GalleryMismatchError, ImageError
from ..images import FoundImage, walk
from ..index import Index
from .store import GalleryFile, Identity, Record

if TYPE_CHECKING:
    from ..codes import Levels

__all__ = [
    "Changes",
    "Failure",
    "Gallery",
    "GalleryEncoder",
    "GalleryError",
    "GalleryMismatchError",
    "Match",
]

_log = logging.getLogger("pyhash")
_COMMIT_PICTURES = 64
_COMMIT_SECONDS = 2.0


class GalleryEncoder(Protocol):
    """What a gallery needs of an encoder; `pyhash.Encoder` has it."""

    @property
    def name(self) -> str:
        """A name for people."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same picture may give another code."""

    @property
    def bits(self) -> int:
        """Length of a code."""

    @property
    def levels(self) -> Levels:
        """The levels of a code."""

    def encode(self, images: Any, *, level: str | None = None) -> NDArray[np.uint8]:
        """Codes of one picture `(n_bytes,)` or of many `(n, n_bytes)`; with a level, only its bits are needed."""

    def stream(self, sources: Iterable[Any]) -> Iterator[tuple[Any, NDArray[np.uint8] | ImageError]]:
        """Each source with its code, or with what is wrong with it, in order."""


class Match(NamedTuple):
    """One picture of an answer."""

    path: str
    """The gallery's folder joined with the path inside it."""
    distance: int
    id: int
    """Stays with the path for as long as the picture is in the gallery."""


class Failure(NamedTuple):
    """A picture or a subfolder that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True)
class Changes:
    """What `Gallery.update` found; the pictures in the folder are added + changed + unchanged + failed."""

    added: int
    changed: int
    removed: int
    unchanged: int
    failed: list[Failure]
    """Everything that cannot be searched, those known to be bad from an earlier run included."""


class Gallery:
    """The pictures of a folder with their codes; make one with `Gallery.open`.

    One object may be used from many threads; after a fork each process opens its own.
    """

    def __init__(self, folder: str, file: GalleryFile, encoder: GalleryEncoder | None) -> None:
        self.folder = folder
        self._file = file
        self._encoder = encoder
        self._index: tuple[str | None, Index] | None = None  # with the revision of the file it was loaded from

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        encoder: GalleryEncoder | None = None,
        file: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        rebuild: bool = False,
    ) -> Self:
        """Open the gallery of a folder.

        Parameters
        ----------
        folder : path
            The folder with the pictures.
        encoder : Encoder, optional
            What turns pictures into codes; by default the built-in model, loaded when it is first needed.
        file : path, optional
            Where the gallery is kept; by default ``FOLDER/.pyhash/gallery.sqlite``.
        create : bool
            Make an empty gallery where there is none.
        rebuild : bool
            Forget all codes at once, those of another encoder too; `update` then encodes every picture again.

        Raises
        ------
        GalleryError
            When there is neither folder nor gallery, when there is no gallery and `create` is false, or when its file
            cannot be used.
        GalleryMismatchError
            When its codes are of another encoder than the one given.
        """
        path = Path(file) if file is not None else Path(folder) / ".pyhash" / "gallery.sqlite"
        if not (Path(folder).is_dir() or path.exists()):
            raise GalleryError(f"there is no folder {os.fspath(folder)}; is its name right, and its disk there?")
        if not create and not path.exists():
            raise GalleryError(f"there is no gallery at {path}: `pyhash index {os.fspath(folder)}` makes one")
        gallery = cls(os.fspath(folder), GalleryFile(path), encoder)
        try:
            if rebuild:
                gallery._encoder = encoder or _default_encoder()
                with gallery._file.transaction(_identity(gallery._encoder), rebuild=True):
                    gallery._file.forget_codes()
            elif encoder is not None:
                gallery._refuse_other(encoder)
        except BaseException:
            gallery.close()
            raise
        return gallery

    def close(self) -> None:
        """Close the file; the gallery cannot be used afterwards."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of pictures that can be searched."""
        with self._file.transaction():
            return self._file.count()[0]

    def __contains__(self, path: object) -> bool:
        """Whether the picture of this path can be searched."""
        if not isinstance(path, (str, os.PathLike)):
            return False
        number = self.id_of(path)
        return number is not None and number in self.index

    def __iter__(self) -> Iterator[str]:
        """The paths of all pictures that can be searched, by id, joined with the gallery's folder."""
        with self._file.transaction():
            paths = [self._path(int(number)) for number in self._fresh_index().ids]
        return iter(paths)

    def __repr__(self) -> str:
        try:
            return f"<pyhash.Gallery {self.folder!r}, {len(self):,} pictures>"
        except GalleryError as error:
            return f"<pyhash.Gallery {self.folder!r}: {error}>"

    @property
    def levels(self) -> Levels:
        """Names and bits of the levels of its codes."""
        return self.encoder.levels

    @property
    def file(self) -> Path:
        """Where the gallery is kept."""
        return self._file.path

    @property
    def encoder(self) -> GalleryEncoder:
        """The encoder; loads the built-in model when none was given. Raises GalleryMismatchError."""
        if self._encoder is None:
            encoder = _default_encoder()
            self._refuse_other(encoder)
            self._encoder = encoder
        return self._encoder

    @property
    def index(self) -> Index:
        """The index of the codes that the file now holds, under the pictures' ids; not to be changed."""
        with self._file.transaction():
            return self._fresh_index()

    def stats(self) -> dict[str, Any]:
        """What the gallery holds: file, pictures, failed; encoder, fingerprint and levels (None at first)."""
        with self._file.transaction():
            pictures, failed = self._file.count()
            identity = self._file.identity()
        return {
            "file": os.fspath(self.file),
            "pictures": pictures,
            "failed": failed,
            "encoder": identity and identity.name,
            "fingerprint": identity and identity.fingerprint,
            "levels": identity and identity.levels,
        }

    # Filling it

    def update(self, *, progress: Callable[[int, int], None] | None = None) -> Changes:
        """Bring the gallery up to date with its folder and everything under it.

        Encodes what is new or whose size or time of change differs, and drops what has gone. Names that start
        with a dot and links to folders are left out. Finished pictures are stored every few seconds at most,
        each time as one transaction on disk, so an interrupted run goes on where it stopped.

        Parameters
        ----------
        progress : callable, optional
            Called with (pictures done, pictures to encode), first with 0 done.

        Returns
        -------
        Changes
            How many pictures were added, changed, removed and unchanged, and which failed and why.

        Raises
        ------
        GalleryError
            When the folder cannot be read or the file cannot be written.
        GalleryMismatchError
            When its codes are of another encoder.
        """
        encoder = self.encoder
        found, failed, blocked = _walk(self.folder)
        with self._file.transaction():
            known = self._file.known()
        present = {picture.path for picture in found}
        # What lies under a subfolder that could not be listed is out of sight, not gone.
        gone = [row.id for path, row in known.items() if path not in present and not path.startswith(blocked)]
        todo, unchanged = [], 0
        for picture in found:
            row = known.get(picture.path)
            if row is None or picture[1:] != (row.size, row.mtime_ns) or not (row.has_code or row.error):
                todo.append(picture)
            elif row.has_code:
                unchanged += 1
            else:
                failed.append(Failure(self._join(picture.path), str(row.error)))
        with self._file.transaction(_identity(encoder)):
            self._file.remove(gone)
        added, changed = self._encode(encoder, todo, known.keys(), failed, progress)
        return Changes(added, changed, len(gone), unchanged, sorted(failed))

    def _encode(
        self,
        encoder: GalleryEncoder,
        todo: list[FoundImage],
        known: Container[str],
        failed: list[Failure],
        progress: Callable[[int, int], None] | None,
    ) -> tuple[int, int]:
        """Encode and store, a transaction every few pictures; also those finished before an exception."""
        if progress is not None:
            progress(0, len(todo))
        counts = {False: 0, True: 0}  # by whether the picture was known
        identity = _identity(encoder)
        pending: list[Record] = []
        committed = time.monotonic()

        def commit() -> None:
            if pending:
                with self._file.transaction(identity):
                    self._file.put(pending)
                pending.clear()

        try:
            stream = encoder.stream([self._join(picture.path) for picture in todo]) if todo else ()
            for done, (picture, (_, result)) in enumerate(zip(todo, stream, strict=True), 1):
                code = reason = None
                mtime_ns = picture.mtime_ns
                if isinstance(result, ImageError):
                    reason = result.reason
                    failed.append(Failure(self._join(picture.path), reason))
                    if not _can_be_read(self._join(picture.path)):
                        mtime_ns = -1  # not the content's fault, and mending it changes no time: look again next time
                else:
                    code = np.asarray(result, np.uint8).tobytes()
                    counts[picture.path in known] += 1
                pending.append(Record(picture.path, picture.size, mtime_ns, code, reason))
                if len(pending) >= _COMMIT_PICTURES or time.monotonic() - committed >= _COMMIT_SECONDS:
                    commit()
                    committed = time.monotonic()
                if progress is not None:
                    progress(done, len(todo))
        finally:
            commit()
        return counts[False], counts[True]

    # Asking it

    @overload
    def search(
        self,
        images: str | os.PathLike[str] | bytes,
        k: int = 10,
        *,
        level: str | None = None,
        weights: dict[str, int] | None = None,
        cascade: tuple[str, int] | None = None,
    ) -> list[Match]: ...

    @overload
    def search(
        self,
        images: list[Any] | tuple[Any, ...],
        k: int = 10,
        *,
        level: str | None = None,
        weights: dict[str, int] | None = None,
        cascade: tuple[str, int] | None = None,
    ) -> list[list[Match]]: ...

    @overload
    def search(
        self,
        images: Any,
        k: int = 10,
        *,
        level: str | None = None,
        weights: dict[str, int] | None = None,
        cascade: tuple[str, int] | None = None,
    ) -> Any: ...

    def search(
        self,
        images: Any,
        k: int = 10,
        *,
        level: str | None = None,
        weights: dict[str, int] | None = None,
        cascade: tuple[str, int] | None = None,
    ) -> Any:
        """Find the pictures most like each of some images.

        Parameters
        ----------
        images : path, bytes, PIL image or array, or a sequence of them
            What to look for, as `Encoder.encode` takes it. A picture of the gallery finds itself, too.
        k : int
            Matches an image, at least 1; fewer where the gallery has fewer pictures.
        level, weights, cascade
            How codes are compared, as in `Index.search`.

        Returns
        -------
        list of Match, or a list of them an image
            Nearest first, ties by id; one image gives one list.

        Raises
        ------
        ImageError
            When an image cannot be read.
        GalleryMismatchError
            When the gallery's codes are of another encoder.
        """
        codes = self.encoder.encode(images, level=level)
        matches = self.search_codes(np.atleast_2d(codes), k, level=level, weights=weights, cascade=cascade)
        return matches[0] if codes.ndim == 1 else matches

    def search_codes(
        self,
        codes: NDArray[np.uint8],
        k: int = 10,
        *,
        level: str | None = None,
        weights: dict[str, int] | None = None,
        cascade: tuple[str, int] | None = None,
        exclude: Sequence[int | None] | None = None,
    ) -> list[list[Match]]:
        """Find the pictures whose codes are nearest to each of some codes.

        Parameters
        ----------
        codes : uint8 array (n, n_bytes)
            Codes of this gallery's encoder.
        k, level, weights, cascade
            As in `search`.
        exclude : sequence of int or None, optional
            For each code the id of a picture to leave out.

        Returns
        -------
        list of list of Match
            For each code its matches, nearest first, ties by id.
        """
        left_out = [None] * len(codes) if exclude is None else exclude
        wanted = k + (k > 0 and any(number is not None for number in left_out))
        with self._file.transaction():  # one snapshot, so that every id the index finds has its path
            index = self._fresh_index()
            wanted = min(wanted, max(1, len(index)))
            distances, ids = index.search(codes, wanted, level=level, weights=weights, cascade=cascade)
            paths = {number: self._path(number) for number in np.unique(ids[ids >= 0]).tolist()}
        answers = []
        for near, numbers, omit in zip(distances.tolist(), ids.tolist(), left_out, strict=True):
            found = [Match(paths[i], d, i) for d, i in zip(near, numbers, strict=True) if i not in (-1, omit)]
            answers.append(found[:k])
        return answers

    def id_of(self, path: str | os.PathLike[str]) -> int | None:
        """The id of a picture by its path in the file system, or None when the gallery does not have it."""
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(self.folder)).replace(os.sep, "/")
        with self._file.transaction():
            return self._file.id_of(relative)

    def path(self, number: int) -> str:
        """The path of a picture by its id, joined with the gallery's folder."""
        with self._file.transaction():
            if number not in self._fresh_index():
                raise KeyError(f"the gallery has no picture {number}")
            return self._path(int(number))

    def duplicates(
        self, radius: int | None = None, *, check: bool = True, progress: Callable[[int, int], None] | None = None
    ) -> list[list[Match]]:
        """Group the pictures that are nearly the same.

        Two pictures whose codes differ in at most `radius` bits are in one group, and so are those that a
        chain of such pairs joins (single linkage). As codes tell what is in a picture, a group may also hold
        different pictures of alike things; the check keeps together only what looks the same.

        Parameters
        ----------
        radius : int, optional
            Bits in which two codes may differ, at least 0; a tenth of a code's bits unless given.
        check : bool
            Also compare the pictures themselves, at 16 x 16 pixels. That keeps copies that were recompressed,
            resized or made brighter, and drops those that were cropped much or turned, and pictures that can no
            longer be read.
        progress : callable, optional
            Called with (pictures compared, pictures to compare).

        Returns
        -------
        list of list of Match
            Groups of two or more, by their smallest id. Each begins with that picture; the others follow by
            their distance to it (which exceeds the radius where only a chain joins them), then by id.
        """
        from .duplicates import near_codes, same_looks, thumbnails

        with self._file.transaction():
            index = self._fresh_index()
            ids, codes = index.ids, index.codes(index.ids)
            groups = near_codes(codes, default_radius(index.bits) if radius is None else radius)
            paths = {slot: self._path(int(ids[slot])) for group in groups for slot in group.tolist()}
        if check:
            looks: dict[int, NDArray[np.uint8]] = {}
            for done, (slot, look) in enumerate(zip(paths, thumbnails(list(paths.values())), strict=True), 1):
                if look is not None:
                    looks[slot] = look
                if progress is not None:
                    progress(done, len(paths))
            readable = [np.array([slot for slot in group.tolist() if slot in looks], np.intp) for group in groups]
            groups = [
                group[part] for group in readable for part in same_looks([looks[slot] for slot in group.tolist()])
            ]
        answer = []
        for group in groups:
            distances = np.bitwise_count(codes[group] ^ codes[group[0]]).sum(axis=1, dtype=np.int64)
            order = [0, *(np.argsort(distances[1:], kind="stable") + 1).tolist()]
            answer.append([Match(paths[int(group[n])], int(distances[n]), int(ids[group[n]])) for n in order])
        return sorted(answer, key=lambda matches: matches[0].id)

    # Inside

    def _refuse_other(self, encoder: GalleryEncoder) -> None:
        with self._file.transaction():
            self._file.refuse_other(_identity(encoder))

    def _fresh_index(self) -> Index:
        """The index of the current snapshot; loaded again only when the file has changed since."""
        revision = self._file.revision()
        if self._index is None or self._index[0] != revision:
            self._index = (revision, self._load_index())
            _log.info("loaded the gallery %s: %d codes", self.folder, len(self._index[1]))
        return self._index[1]

    def _load_index(self) -> Index:
        identity = self._file.identity()
        if identity is None:  # nothing was ever stored
            return Index(bits=64) if self._encoder is None else Index(levels=self._encoder.levels)
        try:
            index = Index(levels=identity.levels)
            for ids, codes in self._file.codes((index.bits + 7) // 8):
                index.add(codes, ids=ids)
        except ValueError as error:
            raise self._file.damaged(str(error)) from error
        return index

    def _path(self, number: int) -> str:
        return self._join(self._file.path_of(number))

    def _join(self, path: str) -> str:
        return os.path.join(self.folder, *path.split("/"))


def default_radius(bits: int) -> int:
    """Return in how many bits the codes of near-duplicates may differ, unless the user says: a tenth of all."""
    return bits // 10


def _default_encoder() -> GalleryEncoder:
    from ..encoder import Encoder

    return Encoder()


def _identity(encoder: GalleryEncoder) -> Identity:
    return Identity(encoder.name, encoder.fingerprint, dict(encoder.levels))


def _walk(folder: str) -> tuple[list[FoundImage], list[Failure], tuple[str, ...]]:
    """The images under a folder by name, what could not be looked at, and prefixes out of sight."""
    try:
        found = walk(folder)
    except OSError as error:
        raise GalleryError(f"the folder {folder} cannot be read: {error.strerror}") from error
    return found.images, [Failure(failed.path, failed.reason) for failed in found.failed], found.hidden


def _can_be_read(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError:
        return False
    return True
