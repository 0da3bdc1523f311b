"""Forgetting images: they leave a gallery's file without a trace, and the next update does not bring them back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import GalleryError
from .adapt import Plan, settle
from .names import paths_inside
from .results import PathLike
from .snapshot import Snapshots
from .store import GalleryFile


class Forgot(NamedTuple):
    """What `Gallery.forget` did or took back."""

    paths: list[str]
    """Inside the folder, with forward slashes; a subfolder's ends in one."""
    images: int
    """How many images left the gallery."""


def forget(file: GalleryFile, snapshots: Snapshots, folder: str, paths: Iterable[PathLike]) -> Forgot:
    """Do what `Gallery.forget` promises."""
    with file.writing(None):
        meant = [_meant(file, folder, path) for path in paths]
        images: set[int] = set()
        for path in meant:
            found = file.under(path) if path.endswith("/") else file.ids_of([path])
            images.update(number for number in found if number is not None)
        # A link, or another name of the same file, would bring an image back.
        names = [name for image in sorted(images) for name in file.names_of(image)]
        file.forgotten.add([*meant, *names])
        file.remove(sorted(images))
        file.forgotten.note_traces(True)
    settle(file, snapshots, Plan({}, allowed=False))  # other images named them as their neighbours
    clean(file)
    return Forgot(meant, len(images))


def take_back(file: GalleryFile, folder: str, paths: Iterable[PathLike]) -> Forgot:
    """Forget no longer."""
    taken: list[str] = []
    with file.writing(None):
        known = file.forgotten.paths()
        for given in paths:
            inside = paths_inside(folder, given)
            found = [
                path
                for path in known
                for name in inside
                if name == "." or path == name or path.startswith(name.rstrip("/") + "/")
            ]
            if not found:
                within = next((path for path in known if any(name.startswith(path) for name in inside)), None)
                why = "it was not forgotten" if within is None else f"it was forgotten with {within}: take that back"
                raise ValueError(f"paths must be what was forgotten, got {os.fspath(given)}: {why}")
            file.forgotten.drop(found)
            taken += found
    return Forgot([*dict.fromkeys(taken)], 0)


def clean(file: GalleryFile) -> None:
    """Leave no trace in the file of what was forgotten."""
    try:
        file.clean()
    except GalleryError as error:
        raise GalleryError(
            f"the images are forgotten, but traces of them remain in the file ({error}). Forget them once more later"
        ) from error
    with file.writing(None):
        file.forgotten.note_traces(False)


def _meant(file: GalleryFile, folder: str, path: PathLike) -> str:
    """Return what a path names, inside the folder: an image that there is, a subfolder, or a file that may come."""
    inside = paths_inside(folder, path)
    if "." in inside:
        raise ValueError(
            f"paths must lie inside the gallery's folder, got {os.fspath(path)}; to forget all, delete {file.path}"
        )
    for name in inside:
        if file.ids_of([name]) != [None]:
            return name
    for name in inside:
        if os.path.isdir(os.path.join(folder, name)) or file.under(name + "/"):
            return name + "/"
    for name in inside:
        if os.path.lexists(os.path.join(folder, name)) or file.forgotten.holds(name):
            return name
    raise ValueError(f"paths must name images or subfolders of the gallery's folder, got {os.fspath(path)}")
