"""Forgetting images: they leave a gallery's file without a trace, and the next update does not bring them back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import GalleryError
from .adapt import Plan, settle
from .folders import Folders, as_folder, folder_of, root_of
from .loading import drop, keep
from .results import PathLike
from .snapshot import Snapshots
from .stocking import compared_file
from .store import GalleryFile


class Forgot(NamedTuple):
    """What `Gallery.forget` did or took back."""

    paths: list[str]
    """Inside the folder, with forward slashes; of several folders, those in the file system. A folder's ends in a
    slash."""
    images: int
    """How many images left the gallery."""


def forget(file: GalleryFile, snapshots: Snapshots, folders: Folders, paths: Iterable[PathLike]) -> Forgot:
    """Do what `Gallery.forget` promises."""
    with file.writing(None):
        meant = [_meant(file, folders, path) for path in paths]
        whole = {folder_of(key) for key in meant if key == root_of(key)}
        if whole == {*file.folders()}:
            raise ValueError(
                f"paths must lie inside the gallery's folder, got {folders.join(meant[0])}; to forget all, delete "
                f"{file.path}"
            )
        dropped = sum(file.remove_folder(folder) for folder in sorted(whole))
        images: set[int] = set()
        for key in meant:
            found = file.under(key) if key.endswith("/") else file.ids_of([key])
            images.update(number for number in found if number is not None)
        # A link, or another name of the same file, would bring an image back.
        names = [name for image in sorted(images) for name in file.names_of(image)]
        file.forgotten.add(key for key in (*meant, *names) if folder_of(key) not in whole)
        file.remove(sorted(images))
        file.forgotten.note_traces(True)
    settle(file, snapshots, Plan({}, allowed=False))  # other images named them as their neighbours
    clean(file)
    keep(file.path)
    return Forgot([*map(folders.shown, meant)], dropped + len(images))


def take_back(file: GalleryFile, folders: Folders, paths: Iterable[PathLike]) -> Forgot:
    """Forget no longer."""
    taken: list[str] = []
    with file.writing(None):
        known = file.forgotten.keys()
        for given in paths:
            there, inside = folders.meant(given)
            meant = [*there, *inside]
            found = [
                key
                for key in known
                for name in meant
                if key == name or (folder_of(key) == folder_of(name) and key.startswith(as_folder(name)))
            ]
            if not found:
                within = next((key for key in known if any(name.startswith(key) for name in meant)), None)
                why = "it was not forgotten"
                if within is not None:
                    why = f"it was forgotten with {folders.shown(within)}: take that back"
                raise ValueError(f"paths must be what was forgotten, got {os.fspath(given)}: {why}")
            file.forgotten.drop(found)
            taken += found
    return Forgot([*map(folders.shown, dict.fromkeys(taken))], 0)


def clean(file: GalleryFile) -> None:
    """Leave no trace in the file of what was forgotten, nor in those beside it."""
    try:
        left = drop(file)
        file.clean()
        if left:
            raise GalleryError(f"{left[0]} cannot be deleted while it is in use")
        compared_file(file.path).unlink(missing_ok=True)  # of images by what tells their bytes
    except (GalleryError, OSError) as error:
        raise GalleryError(
            f"the images are forgotten, but traces of them remain on the disk ({error}). Forget them once more later"
        ) from error
    with file.writing(None):
        file.forgotten.note_traces(False)


def _meant(file: GalleryFile, folders: Folders, path: PathLike) -> str:
    """Return the key of what a path names: an image that there is, a folder, or a file that may come."""
    there, inside = folders.meant(path)
    found = next(iter(_named(file, folders, there)), None)
    if found is not None:
        return found
    several = _named(file, folders, inside)
    if len(several) > 1:
        raise ValueError(
            f"paths must name one image or subfolder each, got {os.fspath(path)}, which may be "
            f"{folders.join(several[0])} or {folders.join(several[1])}: give its whole path"
        )
    if not several:
        roots = " and ".join(folders.roots.values())
        raise ValueError(
            f"paths must name images or subfolders of the gallery, which is of {roots}, got {os.fspath(path)}"
        )
    return several[0]


def _named(file: GalleryFile, folders: Folders, keys: Sequence[str]) -> list[str]:
    """Return those of some keys that name something, subfolders with a slash; images of the gallery before others."""
    images = [key for key in keys if file.ids_of([key]) != [None]]
    subfolders = [
        as_folder(key)
        for key in keys
        if os.path.isdir(folders.join(key)) or key == root_of(key) or file.under(as_folder(key))
    ]
    files = [key for key in keys if os.path.lexists(folders.join(key)) or file.forgotten.holds(key)]
    return images or subfolders or files
