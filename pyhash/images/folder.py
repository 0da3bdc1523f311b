"""The images of a folder and everything under it: one walk, for labels, galleries and the command line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ..errors import ImageError, PatternError
from .beside import RAW_SUFFIXES
from .exclude import IGNORE_FILE, Patterns, check_patterns, is_left_out, patterns_of, read_patterns
from .formats import begins_as_image
from .kinds import PassedOver, may_be_image

__all__ = ["SUFFIXES", "FoundImage", "Walk", "check_min_size", "is_empty", "walk"]

# fmt: off
SUFFIXES = RAW_SUFFIXES | {
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe",
    ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tif", ".tiff",
    ".webp",
}
# fmt: on
"""File names that end in one of these, in any case, are images; what has another ending that nobody knows, or none, is
opened to look. What a file holds may be something else: phones
call JPEG images HEIC, too, and a HEIF, JPEG XL or RAW image is named when it is opened and the package for it is
missing."""


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
        The paths inside the folder of what could not be seen, which is out of sight, not gone: subfolders that could
        not be listed, ending in a slash, with all that lies under them; files that could not be looked at, and links
        that lead nowhere.
    excluded : frozenset of str
        The paths inside the folder of what was left out though it is there: subfolders, ending in a slash, with all
        that lies under them, and files that may be images, too small ones among them.
    passed_over : dict of str to int
        Files that are not read, by kind, as their names tell it: ``"camera RAW"`` (of makes that cannot be read),
        ``"Photoshop"``, ``"SVG"``, ``"other image"``, ``"sidecar"``, ``"video"``,
        ``"film of a live photograph"``, ``"other"``.
    links : int
        Links to folders, which were not followed.
    """

    images: list[FoundImage]
    failed: list[ImageError]
    hidden: tuple[str, ...]
    excluded: frozenset[str] = frozenset()
    passed_over: dict[str, int] = field(default_factory=dict)
    links: int = 0

    def excludes(self, path: str) -> bool:
        """Whether this path inside the folder was left out, by itself or with a folder around it."""
        return any(around in self.excluded for around in _with_folders(path))

    def hides(self, path: str) -> bool:
        """Whether this path inside the folder could not be seen."""
        return any(around in self._unseen for around in _with_folders(path))

    @cached_property
    def _unseen(self) -> frozenset[str]:
        return frozenset(self.hidden)


def walk(folder: str | os.PathLike[str], exclude: Iterable[str] = (), min_size: int = 0) -> Walk:
    """Find the images of a folder and everything under it.

    Left out are names that start with a dot, folders that systems make for themselves (``@eaDir``, ``$RECYCLE.BIN`` and
    their like), and what patterns exclude: those of the caller, and those of files ``.pyhashignore``, which may lie in
    any of the folders and hold a pattern a line for what lies beside and below. Patterns are written as in
    ``.gitignore``: the caller's decide before those of files, deeper files before others, and later lines before
    earlier ones; ``!NAME`` takes back what is left out, a system's folder too, but not what lies in a folder that is
    left out itself. Links to folders are not followed; links to files are.

    Parameters
    ----------
    folder : path
    exclude : sequence of str
        Patterns for paths inside the folder.
    min_size : int
        Images whose files have fewer bytes are left out.

    Returns
    -------
    Walk

    Raises
    ------
    OSError
        When the folder itself cannot be listed.
    PatternError
        When a pattern of the caller, or of the folder's own ``.pyhashignore``, is wrong.
    ValueError
        When `min_size` is no number of bytes.
    """
    root = os.fspath(folder)
    given = patterns_of(check_patterns(exclude))
    found = _Found(check_min_size(min_size))
    todo: list[tuple[str, tuple[Patterns, ...]]] = [("", ())]
    while todo:
        prefix, rules = todo.pop()
        inside = os.path.join(root, *prefix.split("/")) if prefix else root
        try:
            with os.scandir(inside) as listing:
                entries = sorted(listing, key=lambda e: e.name)
            if any(entry.name == IGNORE_FILE for entry in entries):
                rules = (read_patterns(os.path.join(inside, IGNORE_FILE), prefix), *rules)
        except (OSError, PatternError) as error:
            if not prefix:
                raise
            why = error if isinstance(error, PatternError) else f"cannot list this folder: {error.strerror}"
            found.lose(inside, str(why), prefix)
            continue
        kept = (entry for entry in entries if not entry.name.startswith("."))
        todo += [(below, rules) for below in reversed(found.look(kept, prefix, (given, *rules)))]
    return found.walk()


def check_min_size(min_size: int) -> int:
    """Return the least number of bytes of an image's file, or raise ValueError where it is none."""
    if isinstance(min_size, bool) or not isinstance(min_size, int) or min_size < 0:
        raise ValueError(f"min_size must be a number of bytes, 0 or more, got {min_size!r}")
    return min_size


def is_empty(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is there and lists nothing at all, as where a disk would be mounted."""
    try:
        with os.scandir(folder) as listing:
            return next(listing, None) is None
    except OSError:
        return False


class _Found:
    """What a walk has found so far."""

    def __init__(self, min_size: int) -> None:
        self._min_size = min_size
        self._images: list[FoundImage] = []
        self._failed: list[ImageError] = []
        self._hidden: list[str] = []
        self._excluded: list[str] = []
        self._passed_over = PassedOver()
        self._links = 0

    def walk(self) -> Walk:
        """All of it."""
        excluded, passed_over = frozenset(self._excluded), self._passed_over.counts()
        return Walk(self._images, self._failed, tuple(self._hidden), excluded, passed_over, self._links)

    def lose(self, file: str, reason: str, path: str) -> None:
        """Note what could not be seen."""
        self._failed.append(ImageError(file, reason))
        self._hidden.append(path)

    def look(self, entries: Iterable[os.DirEntry[str]], prefix: str, rules: tuple[Patterns, ...]) -> list[str]:
        """Look at what one folder lists; return its subfolders."""
        subfolders: list[str] = []
        images: list[str] = []
        others: list[str] = []
        for entry in entries:
            path = prefix + entry.name
            is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
            try:
                if _is_folder(entry):
                    below = f"{path}/"
                    (self._excluded if is_left_out(below, rules) else subfolders).append(below)
                elif is_left_out(path, rules):
                    self._excluded += [path] * (is_image or may_be_image(entry.name))
                elif _leads_to_folder(entry):
                    self._links += 1
                elif is_image or self._holds_image(entry, path):
                    images.append(entry.name)
                    self._look_at_image(entry, path)
                else:
                    others.append(entry.name)
            except OSError as error:
                if entry.is_symlink() and isinstance(error, FileNotFoundError):
                    self.lose(entry.path, "a link to a file that does not exist", path)
                elif not isinstance(error, FileNotFoundError):  # else it went while we looked
                    self.lose(entry.path, error.strerror or str(error), path)
        self._passed_over.add(others, images)
        return subfolders

    def _holds_image(self, entry: os.DirEntry[str], path: str) -> bool:
        """Whether a file of which the name says nothing is an image; out of sight if that cannot be told."""
        try:
            return may_be_image(entry.name) and _begins_as_image(entry)
        except OSError:
            self._hidden.append(path)
            return False

    def _look_at_image(self, entry: os.DirEntry[str], path: str) -> None:
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            self._failed.append(ImageError(entry.path, "not a regular file"))
            return
        if status.st_size < self._min_size:
            self._excluded.append(path)
            return
        ctime_ns = None if os.name == "nt" else status.st_ctime_ns
        self._images.append(
            FoundImage(path, status.st_size, status.st_mtime_ns, ctime_ns, status.st_ino, status.st_dev)
        )


def _with_folders(path: str) -> Iterator[str]:
    """Yield a path, and the folders around it with a slash at their end."""
    yield path
    at = path.find("/")
    while at >= 0:
        yield path[: at + 1]
        at = path.find("/", at + 1)


def _begins_as_image(entry: os.DirEntry[str]) -> bool:
    status = entry.stat()
    if not stat.S_ISREG(status.st_mode) or not status.st_size:  # a pipe would keep us waiting
        return False
    with open(entry.path, "rb", buffering=0) as file:
        return begins_as_image(file.read(256))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder to go into: links to folders are not followed, so there are no loops."""
    return entry.is_dir(follow_symlinks=False) and not _is_junction(entry)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    return (entry.is_symlink() or _is_junction(entry)) and entry.is_dir()


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """Whether it is one of Windows' own links to folders, as far as this Python tells."""
    asked = getattr(entry, "is_junction", None)
    return asked is not None and asked()
