"""What a gallery is asked: images like others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from ..codes import check_int
from ..errors import GalleryError, GalleryMismatchError, ImageError
from ..images import Box, crop_of
from ..ranking import quantize
from .asking import (
    Examples,
    Measure,
    Questions,
    ask_each,
    ask_together,
    digest_of,
    encode_examples,
    examples_of_embeddings,
    find,
    head_of,
    measure,
    sources_of,
)
from .collection import restored, slots_of
from .distinct import Distinct, LookIndex
from .holder import Encoders
from .names import Names
from .place import Places
from .results import Match, OnError, PathLike, SearchOptions
from .snapshot import Snapshot, Snapshots
from .stocking import Stocking
from .store import GalleryFile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Answering:
    """The searches of a gallery. `pyhash.Gallery` is one with a folder and a file."""

    _file: GalleryFile
    _places: Places
    _names: Names
    _encoders: Encoders
    _snapshots: Snapshots
    _looks: LookIndex
    _head: tuple[int, str] | None = None  # which, and what tells it from others

    @property
    def folder(self) -> str:
        """The first of its folders."""
        return self._places.first

    @property
    def file(self) -> Path:
        """Where the gallery is kept."""
        return self._file.path

    @property
    def revision(self) -> int:
        """Counts the changes of what can be searched."""
        return self._snapshots.now().revision

    @property
    def fingerprint(self) -> str:
        """Tells codes that can be compared with the gallery's from others; changes with the encoder, and with a fit."""
        now = self._snapshots.now()
        head = now.stored_head
        if self._head is None or head is None or self._head[0] != head.id:
            matrix = None if head is None else head.matrix
            made = "" if matrix is None else hashlib.blake2b(matrix, digest_size=8).hexdigest()
            self._head = None if head is None else (head.id, made)
        made = "" if self._head is None else self._head[1]
        return "-".join(part for part in ("" if now.identity is None else now.identity.fingerprint, made) if part)

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
        crop: Box | None = None,
        distinct: bool = False,
    ) -> Any:
        """Find the images of the gallery most like each of some images.

        The nearest by code are put in order by how alike their embeddings are, where the gallery keeps them: at a level
        of own embeddings those of the images, at a level of neighbourhoods those of the images with their nearest.
        Where the gallery holds parts of images, an image is found by the part of it that is nearest, and once.

        Parameters
        ----------
        images : path, bytes, PIL image or array, a sequence of them, or Examples
            What to look for, as `Encoder.encode` takes it, or what `examples` made of it. An image of the gallery finds
            itself, too.
        k : int
            Matches an image, at least 1; fewer where the gallery has fewer images.
        level : str, optional
            Compare this level only: ``"coarse"`` for the same kind, ``"fine"`` for the same picture.
        weights : mapping of str to float, optional
            The share of each level: ``similarity = sum(share * cosine) / sum(share)``. Equal shares unless given.
        cascade : (str, int), optional
            Consider only this many of the nearest at this level; each part of an image counts.
        where : sequence of paths (of images, or of folders of them) or ids, or bool mask, optional
            Search only these images of the gallery, with all their parts; a mask goes by ``gallery.index.ids``, where
            each part has its place.
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
        crop : (int, int, int, int), optional
            Look for this part of each of `images` alone: left, top, right and bottom edge, in pixels of the upright
            image.
        distinct : bool
            Of images that are copies of one another (`duplicates` says what that is) show the first alone, and say in
            `Match.copies` how many of the gallery stand behind it.

        Returns
        -------
        list of Match, or a list of them an image
            In the order (similarity descending, similarity of own embeddings descending, id); by codes alone
            (distance, id), where the id is that of the part that was found. One image, or several together, gives one
            list.

        Raises
        ------
        ImageError
            When an image cannot be read.
        GalleryError
            When nothing can be found because nothing was ever stored.
        GalleryMismatchError
            When the gallery's codes are of another encoder.
        """
        sources, single = ([], False) if isinstance(images, Examples) else sources_of(images)
        unwanted = [] if without is None or isinstance(without, Examples) else sources_of(without)[0]
        if without is not None and not together:
            raise ValueError("without needs together=True: examples of one thing, and what is not wanted")

        def answer(now: Snapshot) -> Any:
            self._refuse_empty(now)
            what = measure(now, level, weights)
            if isinstance(images, Examples):
                examples, kept = images, [*range(len(images))]
            else:
                examples, kept = self._examples(now, sources, level if not together else None, on_error, crop)
            if together:
                if not kept:
                    return []
                others = without if isinstance(without, Examples) else None
                if unwanted:
                    others = self._examples(now, unwanted, None, on_error)[0]
                asked = ask_together(now, examples, others if others is not None and len(others.rows) else None)
                listed = exclude if isinstance(exclude, (list, tuple)) else [exclude]
                omitted: list[list[int]] | None = [self._names.ids_of(listed)]
            else:
                asked = ask_each(now, examples)
                listed = [exclude] if single else exclude
                each = None if listed is None else self._names.ids_of_each(listed, len(sources) or len(examples))
                omitted = None if each is None else [each[place] for place in kept]
            if not rescore:
                asked = asked._replace(vectors=None)

            def ask(count: int) -> list[list[Match]]:
                return self._matches(now, asked, count, what, where, cascade, omitted, threads)

            answers = self._distinct(now, k, ask) if distinct else ask(k)
            return answers[0] if together or (single and answers) else answers

        return self._snapshots.ask(answer)

    def examples(
        self,
        images: Any = (),
        *,
        ids: Sequence[int] | None = None,
        embeddings: ArrayLike | None = None,
        on_error: OnError = "raise",
        crop: Box | None = None,
    ) -> Examples:
        """Encode images once, to search with them several times, or with many at once: `search` takes what this gives.

        Parameters
        ----------
        images : path, bytes, PIL image or array, or a sequence of them
        ids : sequence of int, optional
            Images of the gallery instead: nothing is encoded.
        embeddings : array-like, shape (n, dim), optional
            Embeddings instead, as the network projects them (`Encoder.embed` with ``normalize=False``).
        on_error, crop
            As in `search`.

        Returns
        -------
        pyhash.gallery.Examples
            Of the images that could be read, in their order.

        Raises
        ------
        KeyError
            When the gallery has no image of an id.
        ValueError
            When the gallery keeps no embeddings, or those that are given have another length.
        """

        def make(now: Snapshot) -> Examples:
            self._refuse_empty(now)
            if ids is not None:
                return self._examples_of(now, np.asarray(ids, np.int64).ravel())
            if embeddings is not None:
                return examples_of_embeddings(now, np.atleast_2d(np.asarray(embeddings, np.float32)))
            return self._examples(now, sources_of(images)[0], None, on_error, crop)[0]

        return self._snapshots.ask(make)

    def codes(self, examples: Examples) -> NDArray[np.uint8]:
        """Codes ``(n, n_bytes)`` that `search_codes` takes: every level is made of the image alone."""

        def make(now: Snapshot) -> NDArray[np.uint8]:
            if examples.codes is not None and examples.head == head_of(now):
                return examples.codes
            if examples.embeddings is None or now.head is None:
                raise GalleryMismatchError(
                    "examples must be of the gallery as it is now, and it was coded anew since: make them again"
                )
            return now.head.codes(restored(*quantize(examples.embeddings)))

        return self._snapshots.ask(make)

    def _examples_of(self, now: Snapshot, ids: NDArray[np.int64]) -> Examples:
        """What the gallery holds of images, as examples."""
        missing = [number for number in ids.tolist() if number not in now.index]
        if missing:
            raise KeyError(f"the gallery has no image {missing[0]}")
        codes = now.index.codes(ids)
        if now.collection is None:
            return Examples(codes, None, ids, head_of(now))
        with self._file.reading():
            stored = self._file.vectors.embeddings_of(ids)
        places = slots_of(stored.ids, ids)
        if (places < 0).any():
            raise KeyError(f"the gallery has no image {ids[places < 0][0]} any more")
        return Examples(codes, restored(stored.vectors[places], stored.norms[places]), ids, head_of(now))

    def _examples(
        self, now: Snapshot, sources: list[Any], level: str | None, on_error: OnError, crop: Box | None = None
    ) -> tuple[Examples, list[int]]:
        """Encode images to search with; also return the places of those that could be read."""
        rows = np.full(len(sources), -1, np.int64)
        if crop is not None:
            cropped, places = _cropped(sources, crop, on_error)
            examples, kept = encode_examples(self._encoders.to_search(), now, rows[places], cropped, level, "raise")
            return examples, [places[place] for place in kept]
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
        allowed = None if where is None else self._names.allowed(now, where)
        answers = find(now, asked, k, what, where=allowed, cascade=cascade, exclude=exclude, threads=threads)
        return [self._names.matches(now, found.ids, found.distances.tolist(), found.similarities) for found in answers]

    def _distinct(self, now: Snapshot, k: int, ask: Callable[[int], list[list[Match]]]) -> list[list[Match]]:
        stocking = Stocking(self._file, self._names, now)
        return Distinct(now, stocking, self._looks).first(check_int(k, "k", 1), ask)

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
        if np.ndim(codes) != 2:
            raise ValueError(f"codes must have shape (n, n_bytes), got {np.shape(codes)}: for one, codes[None]")
        omitted = None if exclude is None else self._names.ids_of_each(exclude, len(codes))
        what = Measure(None, level, weights)

        def answer(now: Snapshot) -> list[list[Match]]:
            self._refuse_empty(now)
            return self._matches(now, Questions(codes), k, what, where, cascade, omitted, threads)

        return self._snapshots.ask(answer)

    def thumbnail(self, image: int | PathLike) -> bytes | None:
        """The small JPEG, of at most 160 pixels and without metadata, that is kept of an image, by its id or path.

        It is there while the image's disk is away. None where the gallery has no such image, or none is kept of it: the
        encoder made none.
        """
        number = next(iter(self._names.ids_of([image])), None)
        if number is None:
            return None
        with self._file.reading():
            return self._file.thumbnail(number)

    def _refuse_empty(self, now: Snapshot) -> None:
        """Raise GalleryError where the gallery holds nothing because it was never filled."""
        if not len(now.index):
            with self._file.reading():
                unfilled = self._file.identity() is None or self._file.counts().waiting
            if unfilled:
                raise GalleryError(
                    f"the gallery {self.file} has no codes yet: fill it with update() (`pyhash index {self.folder}`)"
                )


def _cropped(sources: list[Any], crop: Box, on_error: OnError) -> tuple[list[Any], list[int]]:
    """Return a part of each image that can be read, and the places of these."""
    cropped, places = [], []
    for place, source in enumerate(sources):
        try:
            cropped.append(crop_of(source, crop))
            places.append(place)
        except ImageError as error:
            error.index = place
            if not callable(on_error):
                raise
            on_error(error)
    return cropped, places
