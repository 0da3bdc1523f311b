"""Gallery: a folder of images that can be searched, kept in one SQLite file beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict, Unpack, cast, overload

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels
from ..errors import GalleryError
from ..index import Index
from .duplicates import default_radius, near_codes, same_looks
from .encoders import GalleryEncoder, identity_of, open_remembered
from .snapshot import Snapshot, Snapshots
from .store import GalleryFile
from .update import Changes, Progress, join, update

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_PathLike = str | os.PathLike[str]


class Match(NamedTuple):
    """One image of an answer."""

    path: str
    """The gallery's folder joined with the path inside it."""
    distance: int
    id: int
    """Stays with the path for as long as the image is in the gallery."""


@dataclass(frozen=True)
class GalleryStats:
    """What a gallery holds; what `Gallery.stats` returns."""

    file: str
    images: int
    """Those that can be searched."""
    failed: int
    """Those known to be bad."""
    waiting: int
    """Those that wait to be encoded again."""
    encoder: str | None
    """The name of the encoder; like what follows None before the first `Gallery.update`."""
    fingerprint: str | None
    levels: dict[str, int] | None
    opened: dict[str, Any] | None
    """How the encoder was opened, where that is known: arguments of `pyhash.Encoder`."""


class SearchOptions(TypedDict, total=False):
    """How a gallery is searched: arguments of `Gallery.search` and `Gallery.search_codes`."""

    level: str | None
    weights: Mapping[str, int] | None
    where: Iterable[_PathLike] | ArrayLike | None
    cascade: tuple[str, int] | None
    threads: int | None


class Gallery:
    """The images of a folder with their codes.

    One object may be used from many threads: searches run at the same time as one another and as `update`, each on the
    state of the gallery that it found. After a fork each process opens its own.

    Parameters
    ----------
    folder : path
        The folder with the images.
    encoder : Encoder, optional
        What turns images into codes. By default the encoder that the gallery was made with, opened in the same way when
        it is first needed; the built-in one for a new gallery.
    file : path, optional
        Where the gallery is kept; by default ``FOLDER/.pyhash/gallery.sqlite``.
    create : bool
        Make an empty gallery where there is none.
    rebuild : bool
        Forget all codes at once, those of another encoder too; `update` then encodes every image again.

    Raises
    ------
    GalleryError
        When there is neither folder nor gallery, when there is no gallery and `create` is false, or when its file
        cannot be used.
    GalleryMismatchError
        When its codes are of another encoder than the one given.

    Notes
    -----
    The gallery notes the path of its encoder's model: relative to the folder where it lies inside it, so that both can
    be moved together, and absolute otherwise. So a folder from a stranger may name a model of the stranger's: give an
    encoder there.
    """

    def __init__(
        self,
        folder: _PathLike,
        encoder: GalleryEncoder | None = None,
        file: _PathLike | None = None,
        *,
        create: bool = True,
        rebuild: bool = False,
    ) -> None:
        self.folder = os.fspath(folder)
        path = Path(file) if file is not None else Path(folder) / ".pyhash" / "gallery.sqlite"
        if not (Path(folder).is_dir() or path.exists()):
            raise GalleryError(f"there is no folder {self.folder}; is its name right, and its disk there?")
        if not create and not path.exists():
            raise GalleryError(f"there is no gallery at {path}: `pyhash index {self.folder}` makes one")
        self._encoder = encoder
        self._file = GalleryFile(path)
        self._snapshots = Snapshots(self._file, self._empty_index)
        try:
            if rebuild:
                if encoder is None:
                    encoder = self._encoder = self._remembered()
                with self._file.writing(identity_of(encoder, self.folder), rebuild=True):
                    pass
            elif encoder is not None:
                self._refuse_other(encoder)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        folder: _PathLike,
        encoder: GalleryEncoder | None = None,
        file: _PathLike | None = None,
        *,
        create: bool = True,
        rebuild: bool = False,
    ) -> Self:
        """Open the gallery of a folder: the same as ``Gallery(...)``."""
        return cls(folder, encoder, file, create=create, rebuild=rebuild)

    def close(self) -> None:
        """Close the file; the gallery cannot be used afterwards."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What there is

    def __len__(self) -> int:
        """The number of images that can be searched."""
        with self._file.reading():
            return self._file.counts().images

    def __contains__(self, path: object) -> bool:
        """Whether the image of this path can be searched."""
        if not isinstance(path, (str, os.PathLike)):
            return False
        number = self.id_of(path)
        return number is not None and number in self.index

    def __iter__(self) -> Iterator[str]:
        """The paths of all images that can be searched, by id, joined with the gallery's folder."""
        now = self._snapshots.now()
        return iter(self._joined(now, now.index.ids))

    def __getitem__(self, path: _PathLike) -> NDArray[np.uint8]:
        """The code `(n_bytes,)` of the image of this path; KeyError when the gallery has none."""
        number = self.id_of(path)
        index = self.index
        if number is None or number not in index:
            raise KeyError(f"the gallery has no code of {os.fspath(path)}")
        return index.codes(number)

    def __repr__(self) -> str:
        try:
            return f"<pyhash.Gallery {self.folder!r}, {len(self):,} images>"
        except GalleryError as error:
            return f"<pyhash.Gallery {self.folder!r}: {error}>"

    @property
    def file(self) -> Path:
        """Where the gallery is kept."""
        return self._file.path

    @property
    def encoder(self) -> GalleryEncoder:
        """The encoder: the one given, or the one that the gallery was made with, opened when first asked for.

        Raises
        ------
        GalleryError
            When the encoder that the gallery was made with cannot be opened.
        GalleryMismatchError
            When it now gives other codes.
        """
        if self._encoder is None:
            encoder = self._remembered()
            self._refuse_other(encoder)
            self._encoder = encoder
        return self._encoder

    @property
    def levels(self) -> Levels:
        """Names and bits of the levels of its codes."""
        with self._file.reading():
            identity = self._file.identity()
        return self.encoder.levels if identity is None else Levels(identity.levels)

    @property
    def index(self) -> Index:
        """The index of the codes that the gallery now holds, under the images' ids; read-only."""
        return self._snapshots.now().index

    def stats(self) -> GalleryStats:
        """What the gallery holds."""
        with self._file.reading():
            counts = self._file.counts()
            identity = self._file.identity()
        described = (None, None, None, None) if identity is None else identity
        return GalleryStats(os.fspath(self.file), *counts, *described)

    def id_of(self, path: _PathLike) -> int | None:
        """The id of an image, or None when the gallery does not have it.

        The path may be one in the file system, that of a link too, or one inside the folder.
        """
        root, (parent, name) = os.path.realpath(self.folder), os.path.split(os.path.abspath(path))
        named, linked = os.path.join(os.path.realpath(parent), name), os.path.realpath(path)
        inside = [os.path.relpath(named, root), os.path.relpath(linked, root), os.path.normpath(path)]
        with self._file.reading():
            ids = self._file.ids_of(given.replace(os.sep, "/") for given in inside)
        return next((number for number in ids if number is not None), None)

    def path(self, number: int) -> str:
        """The path of an image by its id, joined with the gallery's folder."""
        now = self._snapshots.now()
        if number not in now.index:
            raise KeyError(f"the gallery has no image {number}")
        return self._joined(now, np.array([number], np.int64))[0]

    # Filling it

    def update(self, *, progress: Progress | None = None) -> Changes:
        """Bring the gallery up to date with its folder and everything under it.

        Encodes what is new or whose size or time of change differs, and drops what has gone. Names that start
        with a dot and links to folders are left out. Finished images are stored every few seconds at most,
        each time as one transaction on disk, so an interrupted run goes on where it stopped.

        Parameters
        ----------
        progress : callable, optional
            Called with (images done, images to encode), first with 0 done.

        Returns
        -------
        Changes
            How many images were added, changed, removed and unchanged, and which failed and why.

        Raises
        ------
        GalleryError
            When the folder cannot be read or the file cannot be written.
        GalleryMismatchError
            When its codes are of another encoder.
        """
        return update(self._file, self.folder, self.encoder, progress)

    # Asking it

    @overload
    def search(
        self,
        images: _PathLike | bytes,
        k: int = 10,
        *,
        exclude: int | _PathLike | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Match]: ...

    @overload
    def search(
        self,
        images: list[Any] | tuple[Any, ...],
        k: int = 10,
        *,
        exclude: Sequence[int | _PathLike | None] | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[list[Match]]: ...

    @overload
    def search(self, images: Any, k: int = 10, *, exclude: Any = None, **options: Unpack[SearchOptions]) -> Any: ...

    def search(
        self,
        images: Any,
        k: int = 10,
        *,
        level: str | None = None,
        weights: Mapping[str, int] | None = None,
        where: Iterable[_PathLike] | ArrayLike | None = None,
        cascade: tuple[str, int] | None = None,
        exclude: Any = None,
        threads: int | None = None,
    ) -> Any:
        """Find the images of the gallery most like each of some images.

        Parameters
        ----------
        images : path, bytes, PIL image or array, or a sequence of them
            What to look for, as `Encoder.encode` takes it. An image of the gallery finds itself, too.
        k : int
            Matches an image, at least 1; fewer where the gallery has fewer images.
        level, weights, cascade, threads
            How codes are compared, as in `Index.search`.
        where : sequence of paths or ids, or bool mask, optional
            Search only these images of the gallery; a mask goes by ``gallery.index.ids``.
        exclude : path or id, or a sequence of them or None
            An image of the gallery to leave out of the answer; for several images one each.

        Returns
        -------
        list of Match, or a list of them an image
            Nearest first, ties by id; one image gives one list.

        Raises
        ------
        ImageError
            When an image cannot be read.
        GalleryError
            When nothing can be found because nothing was ever stored.
        GalleryMismatchError
            When the gallery's codes are of another encoder.
        """
        self._filled()
        codes = self.encoder.encode(images, level=level)
        matches = self.search_codes(
            np.atleast_2d(codes),
            k,
            level=level,
            weights=weights,
            where=where,
            cascade=cascade,
            exclude=[exclude] if codes.ndim == 1 else exclude,
            threads=threads,
        )
        return matches[0] if codes.ndim == 1 else matches

    def search_codes(
        self,
        codes: NDArray[np.uint8],
        k: int = 10,
        *,
        level: str | None = None,
        weights: Mapping[str, int] | None = None,
        where: Iterable[_PathLike] | ArrayLike | None = None,
        cascade: tuple[str, int] | None = None,
        exclude: Sequence[int | _PathLike | None] | None = None,
        threads: int | None = None,
    ) -> list[list[Match]]:
        """Find the images whose codes are nearest to each of some codes.

        Parameters
        ----------
        codes : uint8 array (n, n_bytes)
            Codes of this gallery's encoder.
        k, level, weights, where, cascade, threads
            As in `search`.
        exclude : sequence of path, id or None, optional
            For each code an image to leave out.

        Returns
        -------
        list of list of Match
            For each code its matches, nearest first, ties by id.
        """
        now = self._filled()
        left_out = [None] * len(codes) if exclude is None else [self._number(one) for one in exclude]
        wanted = k + (k > 0 and any(number is not None for number in left_out))
        distances, ids = now.index.search(
            codes,
            min(wanted, max(1, len(now.index))),
            level=level,
            weights=weights,
            where=None if where is None else self._allowed(where),
            cascade=cascade,
            threads=threads,
        )
        answers = []
        for near, numbers, omit in zip(distances, ids, left_out, strict=True):
            kept = numbers >= 0 if omit is None else (numbers >= 0) & (numbers != omit)
            near, numbers = near[kept][:k], numbers[kept][:k]
            answers.append([*map(Match, self._joined(now, numbers), near.tolist(), numbers.tolist())])
        return answers

    def duplicates(
        self, radius: int | None = None, *, check: bool = True, progress: Progress | None = None
    ) -> list[list[Match]]:
        """Group the images that are nearly the same.

        Two images whose codes differ in at most `radius` bits are in one group, and so are those that a
        chain of such pairs joins (single linkage). As codes tell what is in an image, a group may also hold
        different images of alike things; the check keeps together only what looks the same.

        Parameters
        ----------
        radius : int, optional
            Bits in which two codes may differ, at least 0; a tenth of a code's bits unless given.
        check : bool
            Also compare the images themselves, at 16 x 16 pixels. That keeps copies that were recompressed,
            resized or made brighter, and drops those that were cropped much or turned, and images that can no
            longer be read.
        progress : callable, optional
            Called with (images compared, images to compare).

        Returns
        -------
        list of list of Match
            Groups of two or more, by their smallest id. Each begins with that image; the others follow by
            their distance to it (which exceeds the radius where only a chain joins them), then by id.
        """
        now = self._filled()
        if radius is None:
            radius = default_radius(now.index.bits)
        groups = near_codes(now.index, radius)
        if check:
            ids = np.array([number for group in groups for number in group.ids.tolist()], np.int64)
            groups = same_looks(
                now.index, groups, dict(zip(ids.tolist(), self._joined(now, ids), strict=True)), progress
            )
        return [
            [*map(Match, self._joined(now, group.ids), group.distances.tolist(), group.ids.tolist())]
            for group in groups
        ]

    # Inside

    def _remembered(self) -> GalleryEncoder:
        with self._file.reading():
            identity = self._file.identity()
        return open_remembered(identity, self.folder, self.file)

    def _refuse_other(self, encoder: GalleryEncoder) -> None:
        with self._file.reading():
            self._file.refuse_other(identity_of(encoder, self.folder))

    def _empty_index(self) -> Index:
        return Index(bits=64) if self._encoder is None else Index(levels=self._encoder.levels)

    def _filled(self) -> Snapshot:
        """The gallery as it is now; GalleryError where it holds nothing because it was never filled."""
        now = self._snapshots.now()
        if not len(now.index):
            with self._file.reading():
                unfilled = self._file.identity() is None or self._file.counts().waiting
            if unfilled:
                raise GalleryError(
                    f"the gallery {self.file} has no codes yet: fill it with update() (`pyhash index {self.folder}`)"
                )
        return now

    def _number(self, image: int | _PathLike | None) -> int | None:
        return self.id_of(image) if isinstance(image, (str, os.PathLike)) else image

    def _allowed(self, where: Iterable[_PathLike] | ArrayLike) -> ArrayLike:
        """Ids or a mask as they are; the ids of paths."""
        if isinstance(where, (str, os.PathLike)):
            raise TypeError(f"where must be a sequence of paths or ids, got {where!r}")
        chosen: Any = list(where) if isinstance(where, Iterable) and not isinstance(where, np.ndarray) else where
        if not isinstance(chosen, list) or not any(isinstance(image, (str, os.PathLike)) for image in chosen):
            return cast("ArrayLike", chosen)
        ids = [self._number(image) for image in chosen]
        if None in ids:
            raise ValueError(f"where must name images of the gallery, but {chosen[ids.index(None)]} is not one")
        return np.array(ids, np.int64)

    def _joined(self, now: Snapshot, ids: NDArray[np.int64]) -> list[str]:
        """The paths of ids, joined with the gallery's folder."""
        folder = join(self.folder, "")
        return [folder + path.replace("/", os.sep) for path in map(os.fsdecode, now.paths.of(ids))]
