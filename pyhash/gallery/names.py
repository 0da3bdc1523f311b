"""Images of a gallery by their paths and ids."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .results import Match, PathLike
from .snapshot import Snapshot
from .store import GalleryFile
from .update import join

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Names:
    """What the images in the folder of one open gallery file are called."""

    def __init__(self, file: GalleryFile, folder: str) -> None:
        self._file = file
        self._folder = folder

    def id_of(self, path: PathLike) -> int | None:
        """The id of an image, or None when there is none of this path."""
        with self._file.reading():
            ids = self._file.ids_of(paths_inside(self._folder, path))
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

    def allowed(self, where: Iterable[PathLike] | ArrayLike) -> ArrayLike:
        """Ids or a mask as they are; the ids of paths, of a folder's all that lies under it."""
        if isinstance(where, (str, os.PathLike)):
            raise TypeError(f"where must be a sequence of paths or ids, got {where!r}")
        chosen: Any = list(where) if isinstance(where, Iterable) and not isinstance(where, np.ndarray) else where
        if not isinstance(chosen, list) or not any(isinstance(image, (str, os.PathLike)) for image in chosen):
            return cast("ArrayLike", chosen)
        ids = [number for image in chosen for number in self._numbers(image)]
        return np.array(ids, np.int64)

    def joined(self, now: Snapshot, ids: NDArray[np.int64]) -> list[str]:
        """The paths of ids, joined with the gallery's folder."""
        folder = join(self._folder, "")
        return [folder + path.replace("/", os.sep) for path in map(os.fsdecode, now.paths.of(ids))]

    def matches(
        self,
        now: Snapshot,
        ids: NDArray[np.int64],
        distances: Sequence[int],
        similarities: NDArray[np.float64] | None,
    ) -> list[Match]:
        """An answer with paths."""
        known = [None] * len(ids) if similarities is None else similarities.tolist()
        return [*map(Match, self.joined(now, ids), distances, ids.tolist(), known)]

    def _numbers(self, image: int | PathLike) -> list[int]:
        number = self._number(image)
        if number is not None:
            return [number]
        inside = [name for name in paths_inside(self._folder, cast("PathLike", image)) if name]
        with self._file.reading():
            under = [self._file.under("" if name == "." else f"{name}/") for name in inside]
        found = next((ids for ids in under if ids), None)
        if found is None:
            raise ValueError(f"where must name images of the gallery or folders of them, but {image} is neither")
        return found

    def _number(self, image: int | PathLike | None) -> int | None:
        return self.id_of(image) if isinstance(image, (str, os.PathLike)) else image


def paths_inside(folder: str, path: PathLike) -> list[str]:
    """The paths inside a folder that are meant by one in the file system, by that of a link, or by one inside it."""
    root, (parent, name) = os.path.realpath(folder), os.path.split(os.path.abspath(path))
    named, linked = os.path.join(os.path.realpath(parent), name), os.path.realpath(path)
    given = [os.path.relpath(named, root), os.path.relpath(linked, root), os.path.normpath(path)]
    inside = [found.replace(os.sep, "/") for found in given]
    return [found for found in dict.fromkeys(inside) if found.split("/")[0] != ".." and not os.path.isabs(found)]
