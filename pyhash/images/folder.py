"""The images of a folder and everything under it: one walk, for labels, galleries and the command line."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ImageError

__all__ = ["SUFFIXES", "FoundImage", "Walk", "walk"]

# fmt: off
SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on
"""File names that end in one of these, in any case, are images. What a file holds may be something else: phones
call JPEG images HEIC, too, and a HEIF image is named when it is opened and the package for it is missing."""


class FoundImage(NamedTuple):
    """An image file as the folder lists it; it was not opened."""

    path: str
    """Inside the folder, with forward slashes on every system."""
    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int | None = None
    """When name, place, rights or content last changed; None on Windows, where it is the time of creation."""
    inode: int = 0
    device: int = 0
    """With the inode what tells a file, by whichever name; 0 where the system has none."""


@dataclass(frozen=True)
class Walk:
    """What `walk` found.

    Attributes
    ----------
    images : list of FoundImage
        By folder and name: those of a folder before those of its subfolders.
    failed : list of ImageError
        What looks like an image and is none that can be read, and subfolders that could not be listed. Its paths are
        joined with the folder.
    hidden : tuple of str
        Of the subfolders that could not be listed the paths inside the folder, each ending in a slash. What lies under
        them is out of sight, not gone.
    """

    images: list[FoundImage]
    failed: list[ImageError]
    hidden: tuple[str, ...]


def walk(folder: str | os.PathLike[str]) -> Walk:
    """Find the images of a folder and everything under it.

    Names that start with a dot are left out, and links to folders are not followed; links to files are.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Walk

    Raises
    ------
    OSError
        When the folder itself cannot be listed.
    """
    root = os.fspath(folder)
    images: list[FoundImage] = []
    failed: list[ImageError] = []
    hidden: list[str] = []
    todo = [""]
    while todo:
        prefix = todo.pop()
        inside = os.path.join(root, *prefix.split("/")) if prefix else root
        try:
            with os.scandir(inside) as listing:
                entries = sorted((e for e in listing if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            if not prefix:
                raise
            failed.append(ImageError(inside, f"cannot list this folder: {error.strerror}"))
            hidden.append(prefix)
            continue
        subfolders = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):  # links to folders are not followed, so there are no loops
                subfolders.append(f"{prefix}{entry.name}/")
                continue
            found = _look(entry, prefix)
            if isinstance(found, FoundImage):
                images.append(found)
            elif found is not None:
                failed.append(found)
        todo += reversed(subfolders)
    return Walk(images, failed, tuple(hidden))


def _look(entry: os.DirEntry[str], prefix: str) -> FoundImage | ImageError | None:
    """Return a file as an image, or why it is none that can be read; None for what its name does not call an image."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix not in SUFFIXES:
        return None
    try:
        status = entry.stat()
    except OSError as error:
        broken = isinstance(error, FileNotFoundError) and entry.is_symlink()
        reason = "a link to a file that does not exist" if broken else error.strerror or str(error)
        return ImageError(entry.path, reason)
    if stat.S_ISREG(status.st_mode):
        ctime_ns = None if os.name == "nt" else status.st_ctime_ns
        return FoundImage(
            prefix + entry.name, status.st_size, status.st_mtime_ns, ctime_ns, status.st_ino, status.st_dev
        )
    return None if stat.S_ISDIR(status.st_mode) else ImageError(entry.path, "not a regular file")
