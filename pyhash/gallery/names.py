"""Images of a gallery by their paths and ids."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .folders import as_folder
from .place import Places
from .results import Match, PathLike
from .snapshot import Snapshot
from .store import GalleryFile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Names:
    """What the images of one open gallery file are called."""

    def __init__(self, file: GalleryFile, places: Places) -> None:
        self._file = file
        self._places = places

    def id_of(self, path: PathLike) -> int | None:
        """The id of an image, or None when there is none of this path."""
        there, inside = self._places.now().meant(path)
        with self._file.reading():
            ids = self._file.ids_of([*there, *inside])
        return next((number for number in ids if number is not None), None)

    def ids_of(self, images: Iterable[int | PathLike | None]) -> list[int]:
        """The ids of images of the gallery; those that it does not have are passed over."""
        return [number for number in map(self._number, images) if number is not None]

    def ids_of_each(self, exclude: Any, count: int) -> list[list[int]]:
        """The ids of what each of several queries is to leave out."""
        if isinstance(exclude, (str, os.PathLike)) or not isinstance(exclude, Iterable):
            raise TypeError(f"exclude must be a sequence of paths, ids or None, one a query, got {exclude!r}")
        listed = list(exclude)
        if len(listed) != count:
            raise ValueError(f"exclude must have one entry a query: {count}, got {len(listed)}")
        return [self.ids_of([one]) for one in listed]

    def allowed(self, now: Snapshot, where: Iterable[PathLike] | ArrayLike) -> ArrayLike:
        """A mask as it is; else all rows of the images: of ids, or of paths, of a folder's all that lies under it."""
        if isinstance(where, (str, os.PathLike)):
            raise TypeError(f"where must be a sequence of paths or ids, got {where!r}")
        chosen: Any = list(where) if isinstance(where, Iterable) and not isinstance(where, np.ndarray) else where
        if isinstance(chosen, list) and any(isinstance(image, (str, os.PathLike)) for image in chosen):
            chosen = np.array([number for image in chosen for number in self._numbers(image)], np.int64)
        if not len(now.parts):
            return cast("ArrayLike", chosen)
        ids = np.asarray(chosen)
        if ids.dtype.kind not in "iu" or ids.ndim != 1:
            return cast("ArrayLike", chosen)
        return now.parts.rows_of(np.unique(now.parts.images_of(ids.astype(np.int64))))

    def joined(self, now: Snapshot, ids: NDArray[np.int64]) -> list[str]:
        """The paths of images, joined with their folders."""
        return [*map(self._places.now().join, map(os.fsdecode, now.paths.of(ids)))]

    def shown(self, key: str) -> str:
        """The path of an image by its key, joined with its folder."""
        return self._places.now().join(key)

    def path(self, now: Snapshot, row: int) -> str:
        """The path of the image of a row; KeyError when there is no such row."""
        if row not in now.index:
            raise KeyError(f"the gallery has no image {row}")
        return self.joined(now, now.parts.images_of(np.array([row], np.int64)))[0]

    def matches(
        self,
        now: Snapshot,
        rows: NDArray[np.int64],
        distances: Sequence[int],
        similarities: NDArray[np.float64] | None,
    ) -> list[Match]:
        """An answer with paths, of rows."""
        known = [None] * len(rows) if similarities is None else similarities.tolist()
        images, parts = now.parts.images_of(rows), now.parts.of_rows(rows)
        return [*map(Match, self.joined(now, images), distances, images.tolist(), known, parts)]

    def _numbers(self, image: int | PathLike) -> list[int]:
        number = self._number(image)
        if number is not None:
            return [number]
        there, inside = self._places.now().meant(cast("PathLike", image))
        with self._file.reading():
            under = [self._file.under(as_folder(key)) for key in there]
            within = [number for key in inside for number in self._file.under(as_folder(key))]
        found = next((ids for ids in under if ids), within)
        if not found:
            raise ValueError(f"where must name images of the gallery or folders of them, but {image} is neither")
        return found

    def _number(self, image: int | PathLike | None) -> int | None:
        return self.id_of(image) if isinstance(image, (str, os.PathLike)) else image
