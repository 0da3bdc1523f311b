"""Which folders a gallery is of: it refuses others, and goes with its own when they are moved, renamed or copied."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import GalleryDamagedError, GalleryError
from ..images import is_empty
from .folders import FIRST, Folders, Place
from .store import GalleryFile

_LOOKED_FOR = 64  # images of a folder, to see whether they lie there
ENOUGH = 0.5
"""Of them, to take a folder for the one that it was."""


class Places:
    """The folders of one open gallery file: those that were given, as they were given, and where the others are.

    Parameters
    ----------
    file : GalleryFile
    given : sequence of str
        Empty: all that the gallery remembers.
    """

    def __init__(self, file: GalleryFile, given: Sequence[str]) -> None:
        self._file = file
        self._given = [*given]
        self._numbers: dict[str, int] | None = None  # of those given that it has; None: not yet recognised
        self._unsure: dict[int, bytes | None] = {}  # nothing tells them; with the path noted of each
        self._elsewhere: dict[int, str] = {}  # where others were seen
        self._now: tuple[int, Folders] | None = None
        self._ever: dict[int, str] = {}

    @property
    def first(self) -> str:
        """The first folder."""
        return self._given[0] if self._given else next(iter(self.now().roots.values()))

    def recognise(self, *, create: bool) -> None:
        """Find out which of the gallery's folders were given.

        GalleryError where none is one of them, where others lie in one of them or around it, and where there are others
        and none is to be added: unless it may `create`.
        """
        with self._file.reading():
            known = self._file.folders()
            found = _recognised(self._file, known, self._given)
            self._unsure = {n: known[n].path for n in found if not self._file.some_sizes(1, n)}
        self._numbers = {folder: number for number, folder in found.items() if folder in self._given}
        self._elsewhere = {number: folder for number, folder in found.items() if folder not in self._given}
        self._now = None
        new = self._new(self._numbers)
        if new and not (create and self._numbers):
            raise GalleryError(_refusal(self._file, known, new[0], beside=bool(self._numbers)))
        for folder in new:
            if not os.path.isdir(folder):
                raise GalleryError(
                    f"there is no folder {folder}, nor is it one of the gallery {self._file.path}; is its name right, "
                    "and its disk there?"
                )
        roots = self.now().roots
        refuse_nested(new, [*roots.values()])
        if not roots:
            raise GalleryError(
                f"the gallery {self._file.path} does not remember its folder: give that, and the file as the gallery's "
                "(--gallery FILE)"
            )

    def now(self) -> Folders:
        """The folders of the gallery as it is now."""
        version, before = self._file.version(), self._now
        if before is None or before[0] != version:
            with self._file.reading():
                try:
                    roots = self._roots(self._file.folders())
                except GalleryDamagedError:
                    roots = dict(zip([FIRST], self._given, strict=False))
            self._ever = {**self._ever, **roots}
            self._now = before = version, Folders(roots, self._ever)
        return before[1]

    def to_walk(self) -> dict[int, str]:
        """The folders to be brought up to date; those that are new are added to the gallery.

        GalleryError where one was taken out of the gallery since it was opened.
        """
        if not self._given or self._numbers is None:
            return self.now().roots
        if self._new(self._numbers) or self._unsure:
            with self._file.writing(None):
                self._claim(self._numbers, self._file.folders())
            self._now = None
        roots = self.now().roots
        for folder, number in self._numbers.items():
            if number not in roots:
                raise GalleryError(
                    f"{folder} is no folder of the gallery {self._file.path} any more: it was forgotten meanwhile"
                )
        return {self._numbers[folder]: folder for folder in self._given}

    def _claim(self, before: Mapping[str, int], known: Mapping[int, Place]) -> None:
        """Note which folders are the gallery's, in its file, whatever other processes have added meanwhile."""
        numbers, roots = self._bound(before, known), self._roots(known)
        new = self._new(numbers)
        if not numbers:
            raise GalleryError(_refusal(self._file, known, new[0], beside=False))
        refuse_nested(new, [*roots.values()])
        for folder, number in numbers.items():
            if number in self._unsure:
                self._file.note_place(number, Place.of(folder))
        self._numbers = numbers | {folder: self._file.add_folder(Place.of(folder)) for folder in new}
        self._unsure = {}

    def _new(self, numbers: Mapping[str, int]) -> list[str]:
        return [folder for folder in self._given if folder not in numbers]

    def _roots(self, known: Mapping[int, Place]) -> dict[int, str]:
        """Where folders are, those that were given first."""
        if self._numbers is None:
            roots = dict(zip([FIRST], self._given, strict=False))
        else:
            numbers = self._bound(self._numbers, known)
            roots = {numbers[folder]: folder for folder in self._given if folder in numbers}
        others = {n: os.fsdecode(place.path) for n, place in known.items() if place.path is not None}
        return {n: root for n, root in roots.items() if n in known} | {
            n: self._elsewhere.get(n, root) for n, root in others.items() if n not in roots
        }

    def _bound(self, before: Mapping[str, int], known: Mapping[int, Place]) -> dict[str, int]:
        """The numbers of the folders that were given; other processes may have added some, or given a number away."""
        taken = {n for n, path in self._unsure.items() if n in known and known[n].path != path}
        numbers = {folder: number for folder, number in before.items() if number not in taken}
        here = {os.fsencode(os.path.realpath(folder)): folder for folder in self._new(numbers)}
        for number, place in known.items():
            folder = here.get(place.path or b"")
            if folder is not None and number not in numbers.values():
                numbers[folder] = number
        return numbers


class _Search:
    """Which folders are which of a gallery's, by path, device, and the sizes of some images."""

    def __init__(self, file: GalleryFile, known: Mapping[int, Place]) -> None:
        self._file = file
        self._known = known
        self.found: dict[int, str] = {}
        self._places: dict[str, Place] = {}
        self._sizes: dict[int, dict[str, int]] = {}

    def look_at(self, folders: Iterable[str]) -> list[str]:
        """Take those of some folders that are where they were; return the others of all."""
        for folder in folders:
            place = self._places[folder] = Place.of(folder)
            same = next((n for n in self._left() if place.device is not None and place == self._known[n]), None)
            if same is not None:
                self.found[same] = folder
        return [folder for folder in self._places if folder not in self.found.values()]

    def take_alike(self, folders: Sequence[str], given: Container[str]) -> None:
        """Take folders, the most alike first: those of the same path or device before those with the same images.

        Where a folder was is no reason to say that it still is there: that is for those that were given.
        """
        pairs = [(folder, number) for folder in folders for number in self._left()]
        near = [(f, n) for f, n in pairs if self._same_device(f, n) or (f in given and self._same_path(f, n))]
        sure = len(near) == 1  # else they changed their names, perhaps
        ranks = {(f, n): (2.0, 0.0 if sure else self.share(f, n), self._same_device(f, n)) for f, n in near}
        if not sure or len(folders) > 1:
            shares = {pair: self.share(*pair) for pair in pairs if pair not in ranks}
            ranks |= {pair: (1.0, share, False) for pair, share in shares.items() if share >= ENOUGH}
        for folder, number in sorted(ranks, key=ranks.__getitem__, reverse=True):
            if number not in self.found and folder not in self.found.values():
                self.found[number] = folder

    def share(self, folder: str, number: int) -> float:
        """Of some images of a gallery's folder, the share that lies in another one; 0 where it has none."""
        if number not in self._sizes:
            self._sizes[number] = self._file.some_sizes(_LOOKED_FOR, number)
        return share_there(self._sizes[number], folder)

    def has_images(self, number: int) -> bool:
        """Whether there are images of a folder to tell it by; after `share`."""
        return bool(self._sizes.get(number))

    def _left(self) -> list[int]:
        return [number for number in self._known if number not in self.found]

    def _same_path(self, folder: str, number: int) -> bool:
        return self._places[folder].path == self._known[number].path

    def _same_device(self, folder: str, number: int) -> bool:
        device = self._places[folder].device
        return device is not None and device == self._known[number].device


def _recognised(file: GalleryFile, known: Mapping[int, Place], given: Sequence[str]) -> dict[int, str]:
    """Where folders of a gallery are: some of those that were given, or other places where they may be looked for."""
    search = _Search(file, known)
    alone = len(known) == 1
    around = os.path.realpath(file.path.parent.parent)
    inside = next((folder for folder in given if os.path.realpath(folder) == around), None)
    if inside is None and file.path.parent.name == ".pyhash" and not (given and alone):
        inside = around
    if inside is not None and FIRST in known:  # what a file lies in, goes with it
        if alone or (known[FIRST].path != os.fsencode(around) and search.share(inside, FIRST) >= ENOUGH):
            search.found[FIRST] = inside
    elif alone and len(given) == 1 and [place.path for place in known.values()] == [None]:
        search.found.update(dict.fromkeys(known, given[0]))
    left = search.look_at(folder for folder in given if folder not in search.found.values())
    if left and not alone:
        # Folders may have changed their names: it helps to know which of them are where they were.
        seen = {os.path.realpath(folder) for folder in given}
        were = [
            os.fsdecode(place.path) for n, place in known.items() if n not in search.found and place.path is not None
        ]
        left = search.look_at(folder for folder in were if folder not in seen)
    search.take_alike(left, given)
    if alone and given and not search.found and not any(map(search.has_images, known)):
        search.found.update(dict.fromkeys(known, given[0]))
    return search.found


def share_there(sizes: Mapping[str, int], folder: str) -> float:
    """The share of some images that lies in a folder, by their sizes; 0 of none."""
    there = sum(_size(os.path.join(folder, *path.split("/"))) == size for path, size in sizes.items())
    return there / max(1, len(sizes))


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _refusal(file: GalleryFile, known: Mapping[int, Place], folder: str, *, beside: bool) -> str:
    """Say why a folder is refused, `beside` others that are the gallery's."""
    names = [os.fsdecode(place.path) for place in known.values() if place.path is not None]
    if beside:
        return (
            f"the gallery {file.path} has no folder {folder}: it is of {_listed(names)}. `pyhash index` adds a folder "
            "that is named beside one of these"
        )
    return (
        f"the gallery {file.path} is of the {'folder' if len(names) == 1 else 'folders'} {_listed(names)}, not of "
        f"{folder}: its images do not lie there. Give that folder, keep a gallery of this one somewhere else "
        f"(--gallery FILE), or add it: `pyhash index {(names or ['FOLDER'])[0]} {folder} --gallery {file.path}`"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def refuse_missing(given: Sequence[str], file: Path, *, create: bool) -> None:
    """GalleryError where there is no gallery, unless there are the folders to `create` one of."""
    if file.exists():
        return
    for folder in given:
        if not os.path.isdir(folder):
            raise GalleryError(f"there is no folder {folder}; is its name right, and its disk there?")
    if not create:
        away = f", and {given[0]} is empty: is its disk there? " if is_empty(given[0]) else ": "
        where = " where there are images" if is_empty(given[0]) else ""
        raise GalleryError(f"there is no gallery at {file}{away}`pyhash index {given[0]}` makes one{where}")


def refuse_nested(folders: Sequence[str], others: Sequence[str] = ()) -> None:
    """GalleryError where one of some folders is another one or lies in it, or the other in it."""
    for place, folder in enumerate(folders):
        for other in (*folders[:place], *(one for one in others if one not in folders)):
            if _is_same(folder, other):
                raise GalleryError(f"{folder} and {other} are the same folder: give each once")
            for inner, outer in ((folder, other), (other, folder)):
                if any(_is_same(os.fspath(parent), outer) for parent in Path(os.path.realpath(inner)).parents):
                    raise GalleryError(f"{inner} lies in {outer}, whose images are found with it: leave {inner} out")


def _is_same(folder: str, other: str) -> bool:
    if os.path.realpath(folder) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(folder, other)
    except OSError:
        return False
