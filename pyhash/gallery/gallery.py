"""Gallery: folders of images that can be searched, kept in one SQLite file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self, Unpack

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels, LevelsLike
from ..errors import GalleryDamagedError, GalleryError, GalleryMismatchError
from ..heads import Kind
from ..index import Index
from ..labels import Labels
from ..support import files
from .adapt import Adapted, Plan, refit
from .backing import back_up
from .boxes import BoxesLike, read_boxes
from .checking import Checked
from .distinct import LookIndex
from .duplicates import Comparing
from .encoders import GalleryEncoder, is_plain, levels_of, spread_of
from .folders import FIRST
from .forgetting import Forgot, forget, take_back
from .holder import Encoders, stats_of
from .judging import Judging
from .labelling import labelling_of, split_levels
from .loading import keep
from .mending import look
from .mending import repair as mend
from .names import Names
from .place import Places, refuse_missing, refuse_nested
from .results import GalleryOptions, GalleryStats, PathLike
from .snapshot import Snapshots
from .store import GalleryFile
from .update import Changes, Progress, update
from .whereabouts import default_file, leave_mark
from .wishing import checked_wishes


class Gallery(Comparing, Judging):
    """The images of a folder, or of several, with their codes.

    One object may be used from many threads: searches run at the same time as one another and as `update`, each on the
    state of the gallery that it found. After a fork each process opens its own.

    Parameters
    ----------
    folder : path or sequence of paths
        The folder with the images; several need a `file`. Of a gallery of several, some may be given: `update` then
        leaves the others alone, and adds a new one that is given beside one of its own. A gallery's file stands for all
        folders that it remembers.
    encoder : Encoder, optional
        What turns images into codes. By default the encoder that the gallery was made with, opened in the same way when
        it is first needed; the built-in one for a new gallery.
    file : path, optional
        Where the gallery is kept; by default ``FOLDER/.pyhash/gallery.sqlite``, or a file in the user's data folder
        where the folder's disk may be taken away, is another machine's, or cannot be written.
    create : bool
        Make an empty gallery where there is none, and add folders that it does not have.
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
        Patterns of what is left out of each folder, in place of those that were said before, as `pyhash.images.walk`
        takes them; an empty one takes them back.
    min_size : int, optional
        Images whose files have fewer bytes are left out, too; 0 unless that was said before.
    turned : bool, optional
        Whether images are also found mirrored and turned, in seven ways. False unless that was said before.
    tiles : (int, int), optional
        Rows and columns: images are also found by the tiles of such a grid and by one of their size in the middle. None
        unless that was said before; an empty tuple takes that back.
    thumbnails : bool, optional
        Whether small JPEGs of images that are encoded are kept (some 5 kB each). False drops those that there are. True
        unless that was said before.

    Raises
    ------
    GalleryError
        When there is neither folder nor gallery, when there is no gallery and `create` is false, when its file
        cannot be used, when it is of another folder, or when folders are the same or lie in one another.
    GalleryMismatchError
        When its codes are of another encoder than the one given.
    PatternError, ValueError
        When a pattern or an argument is wrong, or there are several folders and no `file`, or no folder.

    Notes
    -----
    The gallery notes the path of its encoder's model: relative to the folder where it lies inside one, so that both can
    be moved together, and absolute otherwise. So a folder from a stranger may name a model of the stranger's: give an
    encoder there.
    """

    def __init__(
        self,
        folder: PathLike | Sequence[PathLike],
        encoder: GalleryEncoder | None = None,
        file: PathLike | None = None,
        *,
        create: bool = True,
        rebuild: bool = False,
        adapt: bool | None = None,
        embeddings: bool | None = None,
        levels: LevelsLike | None = None,
        exclude: Iterable[str] | None = None,
        min_size: int | None = None,
        turned: bool | None = None,
        tiles: tuple[int, int] | tuple[()] | None = None,
        thumbnails: bool | None = None,
    ) -> None:
        given, path = _given(folder, file)
        self._wished = checked_wishes(
            adapt=adapt,
            embeddings=embeddings,
            levels=levels,
            exclude=exclude,
            min_size=min_size,
            turned=turned,
            tiles=tiles,
            thumbnails=thumbnails,
        )
        refuse_missing(given, path, create=create)
        refuse_nested(given)
        self._file = GalleryFile(path)
        self._places = Places(self._file, given)
        self._names = Names(self._file, self._places)
        self._encoders = Encoders(self._file, self._places, encoder)
        self._looks = LookIndex(self._file)
        self._snapshots = Snapshots(self._file, self._empty_index)
        try:
            self._refuse_other(None if rebuild else encoder, create=create)
            if rebuild:
                with self._file.writing(self._encoders.identity(), rebuild=True):
                    pass
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        folder: PathLike | Sequence[PathLike],
        encoder: GalleryEncoder | None = None,
        file: PathLike | None = None,
        **options: Unpack[GalleryOptions],
    ) -> Self:
        """Open the gallery of a folder: the same as ``Gallery(...)``."""
        return cls(folder, encoder, file, **options)

    def close(self) -> None:
        """Close the file; the gallery cannot be used afterwards."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What there is

    @property
    def folders(self) -> list[str]:
        """The folders of the gallery: those that were given, as they were given, then the others that it has."""
        return [*self._places.now().roots.values()]

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
        """The paths of all images that can be searched, by id, each joined with its folder."""
        return iter(self._snapshots.ask(lambda now: self._names.joined(now, now.images)))

    def __getitem__(self, path: PathLike) -> NDArray[np.uint8]:
        """The code `(n_bytes,)` of the image of this path, as a whole; KeyError when the gallery has none."""
        number = self.id_of(path)
        index = self.index
        if number is None or number not in index:
            raise KeyError(f"the gallery has no code of {os.fspath(path)}")
        return index.codes(number)

    def __repr__(self) -> str:
        try:
            return f"<pyhash.Gallery {', '.join(map(repr, self.folders))}, {len(self):,} images>"
        except GalleryError as error:
            return f"<pyhash.Gallery {self.folder!r}: {error}>"

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
        """The index of the codes that the gallery now holds; read-only.

        An image's id is that of its whole; its parts have ids of their own, which `path` knows, too.
        """
        return self._snapshots.now().index

    def stats(self) -> GalleryStats:
        """What the gallery holds."""
        folders = self._places.now()
        with self._file.reading():
            return stats_of(self._file, folders)

    def id_of(self, path: PathLike) -> int | None:
        """The id of an image, or None when the gallery does not have it.

        The path may be one in the file system, that of a link too, or one inside a folder.
        """
        return self._names.id_of(path)

    def path(self, number: int) -> str:
        """The path of an image by its id or that of one of its parts, joined with its folder."""
        return self._snapshots.ask(lambda now: self._names.path(now, number))

    # Filling it

    def update(
        self, *, prune: bool = False, boxes: BoxesLike | None = None, progress: Progress | None = None
    ) -> Changes:
        """Bring the gallery up to date with its folder, or those that were given, and everything under them.

        Encodes what is new or has changed. Where only a file's name, place or times are others, its content tells,
        and it is not encoded again. Left out are names that start with a dot, links to folders, folders that systems
        make, and what patterns name, also those of files ``.pyhashignore`` (`pyhash.images.walk` says more); a file
        with several names is one image. Finished images are stored every few seconds at most, each time as one
        transaction on disk, so an interrupted run goes on where it stopped.

        Drops images that are left out now, and those whose files are gone, unless they may only be out of sight: they
        lay on another disk than the folder, which is not mounted now, in a folder that is empty or cannot be listed, or
        where a link leads that is there still. Where more than a quarter of a folder's images would be gone, none of
        them is dropped. A file that was moved to another of the folders is the same image. Where one of several folders
        is not there, its images are kept.

        Parameters
        ----------
        prune : bool
            Drop every image whose file is not there, however many they are; only what lies in a folder that
            cannot be listed, or may not be looked at, stays.
        boxes : path or mapping of path to boxes, optional
            Parts by which images are found, too, as a detector finds them: a CSV file with the columns ``path`` (from
            the folder, or in the file system), ``x0``, ``y0``, ``x1``, ``y1`` and perhaps ``name``, or (x0, y0, x1, y1)
            by path; in pixels of the upright image. They take the place of those that an image had; other images keep
            theirs. An empty mapping takes all back.
        progress : callable, optional
            Called with (images done, images to encode), first with 0 done.

        Returns
        -------
        Changes
            How many images were added, changed, removed and unchanged, and which failed and why.

        Raises
        ------
        GalleryError
            When no folder can be read or the file cannot be written.
        GalleryMismatchError
            When its codes are of another encoder.
        BoxError
            When a box is wrong or not in its image; then nothing was changed.
        """
        boxed = None if boxes is None else read_boxes(boxes)
        to_walk = self._places.to_walk()
        encoder, proved = self._encoders.to_index()
        changes = update(
            self._file,
            self._snapshots,
            self._places.now(),
            to_walk,
            encoder,
            progress,
            self._wished,
            proved=proved,
            prune=prune,
            boxes=boxed,
        )
        if FIRST in to_walk:  # the gallery is named after it
            leave_mark(to_walk[FIRST], self._file.path)
        files.sweep(self._file.path)
        if hasattr(encoder, "fingerprints") and (changes.added or changes.changed):
            self._listen(encoder)
        keep(self.file)
        return changes

    def _listen(self, encoder: GalleryEncoder) -> None:
        """Warn where an encoder's own codes say little; one of the caller's own making is not judged."""
        from ..encoder import LOOKED_AT, warn_of_silence

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
            or as an array, or a mapping of level to array, in the order in which the gallery yields its images. Labels
            that are not those of one level are used for all. Images without labels are coded, too.
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
            labelling = partial(labelling_of, self._file, self._places.now(), labels, list(bits))
        wished = {} if levels is None else {"levels": dict(bits)}
        adapted = refit(self._file, self._snapshots, Plan(bits, spread_of(encoder)), labelling, head, wished)
        keep(self.file)
        return adapted

    # Keeping it

    def check(self, *, repair: bool = False, progress: Progress | None = None) -> Checked:
        """Look whether all that the gallery's file holds is what was put there, as it lies on the disk.

        SQLite checks its pages, indexes and references; every path, code, embedding, list of neighbours, look and
        thumbnail, the fitted head and the settings are compared with their checksums. Searches go on meanwhile.

        Parameters
        ----------
        repair : bool
            Drop what is damaged, and make it again: images are encoded from their files, as `update` does, heads and
            neighbours from embeddings. A file that SQLite cannot read is kept under another name, and what can be read
            of it goes on in a new one. An image whose file is away waits.
        progress : callable, optional
            As in `update`.

        Returns
        -------
        Checked
            What is damaged, or was.

        Raises
        ------
        GalleryError
            When the file cannot be written, or the encoder is needed and cannot be opened.
        """
        if repair:
            return mend(
                self._file, self._encoders, self._snapshots, self._places, lambda: self.update(progress=progress)
            )
        return look(self._file, self._places.now())

    def backup(self, path: PathLike, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
        """Copy the gallery to a file, as it is at this moment, also while other processes search and change it.

        The copy is a gallery: ``Gallery(folder, file=path)``. (A file that is in use cannot be copied as others are:
        what was written last may lie beside it.)

        Parameters
        ----------
        path : path
            The file to write: it holds what it held, or the whole copy. A gallery that is there is replaced.
        overwrite : bool
            Replace any other file, too.
        progress : callable, optional
            Called with (pages copied, pages to copy).

        Returns
        -------
        Path
            Where the copy is: the file that a link names.

        Raises
        ------
        ForeignFileError
            When a file is there that is no gallery.
        GalleryError
            When the copy cannot be made, as on a full disk, or a gallery that is there is in use.
        """
        return back_up(self.file, path, overwrite=overwrite, progress=progress)

    def forget(self, paths: PathLike | Iterable[PathLike], *, undo: bool = False) -> Forgot:
        """Drop images and remember that they are not wanted: `update` does not take them in again.

        Nothing that was made of them remains in the gallery's file or beside it: codes, embeddings, looks, thumbnails
        and paths are overwritten, and the neighbours of other images found anew. (A head that was fitted on many images
        stays; so do copies of the file that were made before.) The images themselves are left alone.

        Parameters
        ----------
        paths : path or iterable of paths
            Of images or subfolders, in the file system or inside a folder. A subfolder stands for all that lies under
            it, now or later. One of several folders leaves the gallery as a whole, with its images; that is not
            remembered, and `update` takes it in again where it is given anew.
        undo : bool
            Forget these no longer: the next `update` encodes what lies there.

        Returns
        -------
        Forgot
            The paths, and how many images left the gallery.

        Raises
        ------
        ValueError
            When a path names nothing in the folders, or more than one thing; then nothing is forgotten.
        GalleryError
            When the file cannot be written, or when traces remain in it because the disk is full or another process
            reads it: forget the same once more then.
        """
        listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        if undo:
            return take_back(self._file, self._places.now(), listed)
        return forget(self._file, self._snapshots, self._places.now(), listed)

    # Inside

    def _refuse_other(self, encoder: GalleryEncoder | None, *, create: bool) -> None:
        """Refuse another folder and an encoder of other codes; damage is told when it is met, so that `check` can be
        asked to repair it.
        """
        try:
            self._places.recognise(create=create)
            if encoder is not None:
                self._encoders.to_index()
        except GalleryDamagedError:
            pass
        except GalleryMismatchError:
            if not self._file.is_broken():
                raise

    def _empty_index(self) -> Index:
        return Index(levels=self._encoders.levels())


def _given(folder: PathLike | Sequence[PathLike], file: PathLike | None) -> tuple[list[str], Path]:
    """Return the folders that were given, and where the gallery is; a gallery's file stands for what it remembers."""
    given = [os.fspath(one) for one in ([folder] if isinstance(folder, (str, os.PathLike)) else folder)]
    if len(given) == 1 and file is None and os.path.isfile(given[0]):
        return [], Path(given[0])
    files = [one for one in given if os.path.isfile(one)]
    if files:
        raise GalleryError(f"folder must be a folder, or a gallery's file alone, got the file {files[0]} and more")
    if not given:
        raise ValueError("folder must be a folder or several, got none")
    if len(given) > 1 and file is None:
        raise ValueError(f"file must be given for a gallery of several folders, got none for {', '.join(given)}")
    return given, default_file(given[0]) if file is None else Path(file)
