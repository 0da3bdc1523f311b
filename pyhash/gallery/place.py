"""Which folder a gallery is of: it refuses others, and goes with its own when that is moved, renamed or copied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import GalleryError
from .store import GalleryFile

_LOOKED_FOR = 64  # images of a gallery, to see whether they lie in a folder


class Place(NamedTuple):
    """What tells a folder."""

    path: bytes
    """Absolute, without links."""
    device: str | None
    """Its file system and its inode there, which a new name leaves; None where it is not there."""

    @classmethod
    def of(cls, folder: str) -> Place:
        """Look at a folder."""
        path = os.path.realpath(folder)
        try:
            inode, system = os.stat(path).st_ino, os.statvfs(path).f_fsid if hasattr(os, "statvfs") else 0
        except OSError:
            return cls(os.fsencode(path), None)
        return cls(os.fsencode(path), f"{system}:{inode}" if inode else None)


def refuse_other_folder(file: GalleryFile, folder: str) -> None:
    """Raise a GalleryError where a gallery is of another folder than this."""
    if Path(os.path.realpath(file.path)).parent.parent == Path(os.path.realpath(folder)):
        return  # it lies inside, and goes with it
    here = Place.of(folder)
    with file.reading():
        path, device = file.place()
        if path is None or path == here.path or (device is not None and device == here.device):
            return
        sizes = file.some_sizes(_LOOKED_FOR)
    if lie_there(sizes, folder):
        return  # moved to another disk, or a copy
    raise GalleryError(
        f"the gallery {file.path} is of the folder {os.fsdecode(path)}, not of {folder}: its images do not lie there. "
        "Give that folder, or keep a gallery of this one somewhere else (--gallery FILE)"
    )


def lie_there(sizes: Mapping[str, int], folder: str) -> bool:
    """Whether half of some images lie in a folder, by their sizes."""
    there = sum(_size(os.path.join(folder, *image.split("/"))) == size for image, size in sizes.items())
    return 2 * there >= len(sizes)


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
