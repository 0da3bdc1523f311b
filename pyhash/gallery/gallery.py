"""Gallery: a folder of images that can be searched, kept in one SQLite file beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels, LevelsLike
from ..errors import GalleryError
from ..heads import Kind
from ..images import check_patterns, is_empty
from ..index import Index
from ..labels import Labels
from .adapt import Adapted, Plan, own_level, refit
from .asking import (
    Examples,
    Measure,
    Questions,
    ask_each,
    ask_together,
    digest_of,
    encode_examples,
    find,
    measure,
    sources_of,
)
from .duplicates import default_radius, near_codes, same_looks
from .encoders import GalleryEncoder, is_plain, levels_of, spread_of
from .holder import Encoders, stats_of
from .labelling import labelling_of, split_levels
from .names import Names
from .place import refuse_other_folder
from .results import GalleryStats, Match, OnError, PathLike, SearchOptions
from .snapshot import Snapshot, Snapshots
from .store import GalleryFile
from .update import Changes, Progress, update

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


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
    adapt : bool, optional
        Whether `update` may fit a head on the collection; noted at the next `update`, like what follows. True unless
        that was said before.
    embeddings : bool, optional
        Whether embeddings are kept. Without them no head is fitted, and codes alone put answers in order. True unless
        that was said before.
    levels : Levels, mapping or int, optional
        Of the codes of a fitted head; an int is so many bits, a quarter of the bytes coarse and the rest fine. Those of
        the encoder unless that was said before.
    exclude : sequence of str, optional
        Patterns of what is left out of the folder, in place of those that were said before, as `pyhash.images.walk`
        takes them; an empty one takes them back.

    Raises
    ------
    GalleryError
        When there is neither folder nor gallery, when there is no gallery and `create` is false, when its file
        cannot be used, or when it is of another folder.
    GalleryMismatchError
        When its codes are of another encoder than the one given.
    PatternError
        When a pattern is wrong.

    Notes
    -----
    The gallery notes the path of its encoder's model: relative to the folder where it lies inside it, so that both can
    be moved together, and absolute otherwise. So a folder from a stranger may name a model of the stranger's: give an
    encoder there.
    """

    def __init__(
        self,
        folder: PathLike,
        encoder: GalleryEncoder | None = None,
        file: PathLike | None = None,
        *,
        create: bool = True,
        rebuild: bool = False,
        adapt: bool | None = None,
        embeddings: bool | None = None,
        levels: LevelsLike | None = None,
        exclude: Iterable[str] | None = None,
    ) -> None:
        self.folder = os.fspath(folder)
        wished = {
            "adapt": adapt,
            "embeddings": embeddings,
            "levels": None if levels is None else split_levels(levels),
            "exclude": None if exclude is None else check_patterns(exclude),
        }
        self._wished = {name: value for name, value in wished.items() if value is not None}
        path = Path(file) if file is not None else Path(folder) / ".pyhash" / "gallery.sqlite"
        if not (Path(folder).is_dir() or path.exists()):
            raise GalleryError(f"there is no folder {self.folder}; is its name right, and its disk there?")
        if not create and not path.exists():
            if is_empty(folder):
                raise GalleryError(
                    f"there is no gallery at {path}, and {self.folder} is empty: is its disk there? "
                    f"`pyhash index {self.folder}` makes one where there are images"
                )
            raise GalleryError(f"there is no gallery at {path}: `pyhash index {self.folder}` makes one")
        self._file = GalleryFile(path)
        self._names = Names(self._file, self.folder)
        self._encoders = Encoders(self._file, self.folder, encoder)
        self._snapshots = Snapshots(self._file, self._empty_index)
        try:
            refuse_other_folder(self._file, self.folder)
            if rebuild:
                with self._file.writing(self._encoders.identity(), rebuild=True):
                    pass
            elif encoder is not None:
                self._encoders.to_index()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        folder: PathLike,
        encoder: GalleryEncoder | None = None,
        file: PathLike | None = None,
        *,
        create: bool = True,
        rebuild: bool = False,
        adapt: bool | None = None,
        embeddings: bool | None = None,
        levels: LevelsLike | None = None,
        exclude: Iterable[str] | None = None,
    ) -> Self:
        """Open the gallery of a folder: the same as ``Gallery(...)``."""
        wishes = {"adapt": adapt, "embeddings": embeddings, "levels": levels, "exclude": exclude}
        return cls(folder, encoder, file, create=create, rebuild=rebuild, **wishes)  # type: ignore[arg-type]

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
        return iter(self._names.joined(now, now.index.ids))

    def __getitem__(self, path: PathLike) -> NDArray[np.uint8]:
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
        """An encoder of the gallery's codes: its network with the head that was fitted on the collection, if one was.

        Every level is made of the image alone. ``gallery.encoder.save("encoder.onnx")`` writes it, to serve elsewhere.

        Raises
        ------
        GalleryError
            When the encoder that the gallery was made with cannot be opened.
        GalleryMismatchError
            When it now gives other codes.
        """
        return self._encoders.adapted()

    @property
    def levels(self) -> Levels:
        """Names and bits of the levels of its codes."""
        with self._file.reading():
            identity = self._file.identity()
        return self._encoders.to_search().levels if identity is None else Levels(identity.levels)

    @property
    def index(self) -> Index:
        """The index of the codes that the gallery now holds, under the images' ids; read-only."""
        return self._snapshots.now().index

    def stats(self) -> GalleryStats:
        """What the gallery holds."""
        with self._file.reading():
            return stats_of(self._file)

    def id_of(self, path: PathLike) -> int | None:
        """The id of an image, or None when the gallery does not have it.

        The path may be one in the file system, that of a link too, or one inside the folder.
        """
        return self._names.id_of(path)

    def path(self, number: int) -> str:
        """The path of an image by its id, joined with the gallery's folder."""
        now = self._snapshots.now()
        if number not in now.index:
            raise KeyError(f"the gallery has no image {number}")
        return self._names.joined(now, np.array([number], np.int64))[0]

    # Filling it

    def update(self, *, prune: bool = False, progress: Progress | None = None) -> Changes:
        """Bring the gallery up to date with its folder and everything under it.

        Encodes what is new or has changed. Where only a file's name, place or times are others, its content tells,
        and it is not encoded again. Left out are names that start with a dot, links to folders, folders that systems
        make, and what patterns name, also those of files ``.pyhashignore`` (`pyhash.images.walk` says more); a file
        with several names is one image. Finished images are stored every few seconds at most, each time as one
        transaction on disk, so an interrupted run goes on where it stopped.

        Drops images that are left out now, and those whose files are gone, unless they may only be out of sight: they
        lay on another disk than the folder, which is not mounted now, in a folder that is empty or cannot be listed, or
        where a link leads that is there still. Where more than a quarter of the images would be gone, none is dropped.

        Parameters
        ----------
        prune : bool
            Drop every image whose file is not there, however many they are; only what lies in a folder that
            cannot be listed, or may not be looked at, stays.
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
        encoder, proved = self._encoders.to_index()
        changes = update(
            self._file, self._snapshots, self.folder, encoder, progress, self._wished, proved=proved, prune=prune
        )
        if changes.added or changes.changed:
            self._listen(encoder)
        return changes

    def _listen(self, encoder: GalleryEncoder) -> None:
        """Warn where an encoder's own codes say little; one of the caller's own making is not judged."""
        from ..encoder import LOOKED_AT, warn_of_silence

        if not hasattr(encoder, "fingerprints"):
            return
        now, metadata = self._snapshots.now(), getattr(encoder, "metadata", None)
        if now.head is None and metadata is not None:
            codes = now.index.codes(now.index.ids[:LOOKED_AT])
            warn_of_silence(codes, now.index.bits, encoder.name, fitted=bool(metadata.levels))

    def fit(
        self,
        labels: PathLike | Labels | None = None,
        *,
        levels: LevelsLike | None = None,
        head: Kind | None = None,
    ) -> Adapted:
        """Fit the head anew on the embeddings that the gallery keeps, in seconds; no image is opened.

        With labels, codes and similarities tell apart what the labels do; such a head stays as it is, however many
        images come, until it is fitted again.

        Parameters
        ----------
        labels : "folders", path, or arrays, optional
            What images show: by the folders that they lie in, or by a file, as `pyhash.labels.read_labels` takes them;
            or as an array, or a mapping of level to array, aligned with ``gallery.index.ids``. Labels that are not
            those of one level are used for all. Images without labels are coded, too.
        levels : Levels, mapping or int, optional
            As for `Gallery`; those that there are unless given.
        head : str, optional
            The kind of head, as `pyhash.heads.adapt` takes it.

        Returns
        -------
        Adapted
            How many images have new codes.

        Raises
        ------
        GalleryError
            When the gallery keeps no embeddings, or of fewer than two images.
        LabelError, ValueError
            When labels do not fit.
        """
        with self._file.reading():
            identity = self._file.identity()
        if identity is None:
            raise GalleryError(
                f"the gallery {self.file} is empty: fill it with update() (`pyhash index {self.folder}`)"
            )
        encoder = self._encoders.to_search()
        bits = Levels(identity.levels) if levels is None else Levels(split_levels(levels))
        if levels is None and is_plain(encoder) and bits == encoder.levels:
            bits = levels_of(encoder)
        labelling = None
        if labels is not None:
            labelling = partial(labelling_of, self._file, self.folder, labels, list(bits))
        wished = {} if levels is None else {"levels": dict(bits)}
        return refit(self._file, self._snapshots, Plan(bits, spread_of(encoder)), labelling, head, wished)

    # Asking it

    @overload
    def search(
        self,
        images: PathLike | bytes,
        k: int = 10,
        *,
        exclude: int | PathLike | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Match]: ...

    @overload
    def search(
        self,
        images: list[Any] | tuple[Any, ...],
        k: int = 10,
        *,
        exclude: Sequence[int | PathLike | None] | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[list[Match]]: ...

    @overload
    def search(
        self,
        images: list[Any] | tuple[Any, ...],
        k: int = 10,
        *,
        exclude: Sequence[int | PathLike] | None = None,
        together: Literal[True],
        without: Any = None,
        **options: Unpack[SearchOptions],
    ) -> list[Match]: ...

    @overload
    def search(self, images: Any, k: int = 10, *, exclude: Any = None, **options: Unpack[SearchOptions]) -> Any: ...

    def search(
        self,
        images: Any,
        k: int = 10,
        *,
        level: str | None = None,
        weights: Mapping[str, float] | None = None,
        where: Iterable[PathLike] | ArrayLike | None = None,
        cascade: tuple[str, int] | None = None,
        exclude: Any = None,
        together: bool = False,
        without: Any = None,
        rescore: bool = True,
        threads: int | None = None,
        on_error: OnError = "raise",
    ) -> Any:
        """Find the images of the gallery most like each of some images.

        The nearest by code are put in order by how alike their embeddings are, where the gallery keeps them: at a level
        of own embeddings those of the images, at a level of neighbourhoods those of the images with their nearest.

        Parameters
        ----------
        images : path, bytes, PIL image or array, or a sequence of them
            What to look for, as `Encoder.encode` takes it. An image of the gallery finds itself, too.
        k : int
            Matches an image, at least 1; fewer where the gallery has fewer images.
        level : str, optional
            Compare this level only: ``"coarse"`` for the same kind, ``"fine"`` for the same picture.
        weights : mapping of str to float, optional
            The share of each level: ``similarity = sum(share * cosine) / sum(share)``. Equal shares unless given.
        cascade : (str, int), optional
            Consider only this many of the nearest at this level.
        where : sequence of paths or ids, or bool mask, optional
            Search only these images of the gallery; a mask goes by ``gallery.index.ids``.
        exclude : path or id, or a sequence of them or None
            An image of the gallery to leave out of the answer; for several images one each, or with `together` any
            number.
        together : bool
            Search once, with all images as examples of one thing.
        without : path, bytes, PIL image or array, or a sequence of them, optional
            With `together`: examples of what is not wanted.
        rescore : bool
            False: order by codes alone.
        threads : int, optional
            The most threads to compare codes with, as in `Index.search`.
        on_error : "raise" or callable
            What to do about an image that cannot be read, as in `Encoder.encode`.

        Returns
        -------
        list of Match, or a list of them an image
            In the order (similarity descending, similarity of own embeddings descending, id); by codes alone
            (distance, id). One image, or several together, gives one list.

        Raises
        ------
        ImageError
            When an image cannot be read.
        GalleryError
            When nothing can be found because nothing was ever stored.
        GalleryMismatchError
            When the gallery's codes are of another encoder.
        """
        now = self._filled()
        sources, single = sources_of(images)
        unwanted = [] if without is None else sources_of(without)[0]
        if unwanted and not together:
            raise ValueError("without needs together=True: examples of one thing, and what is not wanted")
        what = measure(now, level, weights)
        examples, kept = self._examples(now, sources, level if not together else None, on_error)
        if together:
            if not kept:
                return []
            others = self._examples(now, unwanted, None, on_error)[0] if unwanted else None
            asked = ask_together(now, examples, others if others is not None and len(others.rows) else None)
            listed = exclude if isinstance(exclude, (list, tuple)) else [exclude]
            omitted: list[list[int]] | None = [self._names.ids_of(listed)]
        else:
            asked = ask_each(now, examples)
            listed = [exclude] if single else exclude
            each = None if listed is None else self._names.ids_of_each(listed, len(sources))
            omitted = None if each is None else [each[place] for place in kept]
        if not rescore:
            asked = asked._replace(vectors=None)
        answers = self._matches(now, asked, k, what, where, cascade, omitted, threads)
        return answers[0] if together or (single and answers) else answers

    def _examples(
        self, now: Snapshot, sources: list[Any], level: str | None, on_error: OnError
    ) -> tuple[Examples, list[int]]:
        """Encode images to search with; also return the places of those that could be read."""
        rows = np.full(len(sources), -1, np.int64)
        if now.collection is not None or now.head is not None:
            digests = [*map(digest_of, sources)]
            with self._file.reading():
                found = [None if digest is None else self._file.vectors.row_of_digest(digest) for digest in digests]
            rows = np.array([-1 if row is None else row for row in found], np.int64)
        return encode_examples(self._encoders.to_search(), now, rows, sources, level, on_error)

    def _matches(
        self,
        now: Snapshot,
        asked: Questions,
        k: int,
        what: Measure,
        where: Iterable[PathLike] | ArrayLike | None,
        cascade: tuple[str, int] | None,
        exclude: list[list[int]] | None,
        threads: int | None,
    ) -> list[list[Match]]:
        allowed = None if where is None else self._names.allowed(where)
        answers = find(now, asked, k, what, where=allowed, cascade=cascade, exclude=exclude, threads=threads)
        return [self._names.matches(now, found.ids, found.distances.tolist(), found.similarities) for found in answers]

    def search_codes(
        self,
        codes: NDArray[np.uint8],
        k: int = 10,
        *,
        level: str | None = None,
        weights: Mapping[str, int] | None = None,
        where: Iterable[PathLike] | ArrayLike | None = None,
        cascade: tuple[str, int] | None = None,
        exclude: Sequence[int | PathLike | None] | None = None,
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
        if np.ndim(codes) != 2:
            raise ValueError(f"codes must have shape (n, n_bytes), got {np.shape(codes)}: for one, codes[None]")
        omitted = None if exclude is None else self._names.ids_of_each(exclude, len(codes))
        what = Measure(None, level, weights)
        return self._matches(now, Questions(codes), k, what, where, cascade, omitted, threads)

    @property
    def default_radius(self) -> int:
        """In how many bits duplicates may differ unless `duplicates` is told: a tenth of those that it compares."""
        now = self._snapshots.now()
        level = own_level(now)
        return default_radius(now.index.bits if level is None else now.index.levels[level])

    def duplicates(
        self, radius: int | None = None, *, check: bool = True, progress: Progress | None = None
    ) -> list[list[Match]]:
        """Group the images that are nearly the same.

        Two images whose codes differ in at most `radius` bits are in one group, and so are those that a
        chain of such pairs joins (single linkage). What is made of neighbourhoods is not compared: only the level made
        of the images alone, such as ``fine``. As codes tell what is in an image, a group may also hold
        different images of alike things; the check keeps together only what looks the same.

        Parameters
        ----------
        radius : int, optional
            Bits in which two codes may differ, at least 0; `default_radius` unless given.
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
        level = own_level(now)
        if radius is None:
            radius = self.default_radius
        groups = near_codes(now.index, radius, level)
        if check:
            ids = np.array([number for group in groups for number in group.ids.tolist()], np.int64)
            paths = dict(zip(ids.tolist(), self._names.joined(now, ids), strict=True))
            groups = same_looks(now.index, groups, paths, level, progress)
        return [self._names.matches(now, group.ids, group.distances.tolist(), None) for group in groups]

    # Inside

    def _empty_index(self) -> Index:
        return Index(levels=self._encoders.levels())

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
