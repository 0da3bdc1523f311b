"""Images of a gallery that the user has told apart."""

from __future__ import annotations

import numpy as np

from .names import Names
from .results import PathLike
from .snapshot import Snapshot, Snapshots
from .store import GalleryFile


class Judging:
    """The verdicts on images of a gallery. `pyhash.Gallery` has them."""

    _file: GalleryFile
    _names: Names
    _snapshots: Snapshots

    def not_duplicates(self, one: int | PathLike, other: int | PathLike, *, undo: bool = False) -> None:
        """Remember that two images are no duplicates, by their ids or paths: `duplicates` puts them into no group.

        It is remembered for as long as both are in the gallery, also where they are moved.

        Parameters
        ----------
        one, other : int or path
        undo : bool
            Take that back.

        Raises
        ------
        ValueError
            When one of them is no image of the gallery, when both are the same, or when there is nothing to take back.
        """
        there = {*self._snapshots.now().images.tolist()}
        ids: list[int] = []
        for name, image in (("one", one), ("other", other)):
            number = next(iter(self._names.ids_of([image])), None)
            if number is None or number not in there:
                raise ValueError(f"{name} must be an image of the gallery, and {image} is none")
            ids.append(number)
        if ids[0] == ids[1]:
            raise ValueError(f"one and other must be two images, and both are {one}")
        with self._file.writing(None):
            if not undo:
                self._file.verdicts.add(*ids)
            elif not self._file.verdicts.drop(*ids):
                raise ValueError(f"one and other must have been told apart to take that back, got {one} and {other}")

    def told_apart(self) -> list[tuple[str, str]]:
        """The paths of images that are remembered to be no duplicates of one another, in pairs."""
        with self._file.reading():
            pairs = self._file.verdicts.different()

        def paths(now: Snapshot) -> list[tuple[str, str]]:
            there = {*now.images.tolist()}
            ids = np.array([pair for pair in pairs if there.issuperset(pair)], np.int64)
            found = self._names.joined(now, ids.ravel())
            return [*zip(found[::2], found[1::2], strict=True)]

        return self._snapshots.ask(paths)
