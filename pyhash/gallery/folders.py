"""What an image is called inside the program: by a key, its folder and its path there in one text.

In the first folder of a gallery the key is the path inside it, with forward slashes: ``sub/a.png``. In any other it
stands behind the folder's number: NUL, the number, a slash, the path. No path holds a NUL, and what lies around a key,
up to the slash behind the number, are the folders around the image. A folder's key ends in a slash; that of the first
folder itself is empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ..errors import GalleryError
from .results import PathLike

FIRST = 1
"""The number of the folder that a gallery is made for."""
KEY = (
    f"CASE images.folder WHEN {FIRST} THEN images.path "
    "ELSE CAST(x'00' || images.folder || '/' || images.path AS BLOB) END"
)
"""The key of one of the `images`, in SQL."""


def key_of(folder: int, path: str) -> str:
    """The key of a path inside a folder."""
    return path if folder == FIRST else f"\0{folder}/{path}"


def split(key: str) -> tuple[int, str]:
    """The number of a key's folder, and the path inside it."""
    if not key.startswith("\0"):
        return FIRST, key
    number, _, path = key[1:].partition("/")
    return int(number), path


def is_key(key: bytes) -> bool:
    """Whether bytes are a key, as far as its folder goes."""
    return not key.startswith(b"\0") or key[1:].partition(b"/")[0].isdigit()


def folder_of(key: str) -> int:
    """The number of a key's folder."""
    return split(key)[0]


def root_of(key: str) -> str:
    """The key of the folder that a key lies in."""
    return key_of(folder_of(key), "")


def as_folder(key: str) -> str:
    """The key of what it names as a folder's."""
    return key if not split(key)[1] or key.endswith("/") else f"{key}/"


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


class Meant(NamedTuple):
    """The keys that a path may mean."""

    there: list[str]
    """By where it is in the file system, and where a link leads."""
    inside: list[str]
    """Taken as one inside the folders, of each folder one."""


class Folders:
    """The folders of a gallery by number, those that were given first, and with it keys as paths and back."""

    def __init__(self, roots: Mapping[int, str], earlier: Mapping[int, str] | None = None) -> None:
        self.roots = dict(roots)
        # A number is never given again: what an older state of the gallery holds still has its path.
        self._starts = {n: os.path.join(root, "") for n, root in {**(earlier or {}), **roots}.items()}

    def join(self, key: str) -> str:
        """Return the path in the file system."""
        number, path = split(key)
        try:
            return self._starts[number] + path.replace("/", os.sep)
        except KeyError:
            raise GalleryError(
                f"the gallery does not know where its folder {number} lies: name all of its folders "
                "(`pyhash index A B --gallery FILE`)"
            ) from None

    def shown(self, key: str) -> str:
        """Return the path inside the folder; where there are several folders, the one in the file system."""
        return key if [*self.roots] == [FIRST] else self.join(key)

    def meant(self, path: PathLike) -> Meant:
        """Return the keys that are meant by a path in the file system, by that of a link, or by one inside a folder."""
        parent, name = os.path.split(os.path.abspath(path))
        named, linked = os.path.join(os.path.realpath(parent), name), os.path.realpath(path)
        there: list[str] = []
        for number, root in self.roots.items():
            real = os.path.realpath(root)
            found = [_inside(_relative(named, real)), _inside(_relative(linked, real))]
            there += [key_of(number, one) for one in found if one is not None]
        given = _inside(os.path.normpath(path))
        inside = [] if given is None else [key_of(number, given) for number in self.roots]
        return Meant([*dict.fromkeys(there)], inside)

    def keys(self, paths: Iterable[str]) -> Iterator[str | None]:
        """The keys of paths in the file system that hold no links; None where one lies in none of the folders."""
        roots = [(number, os.path.realpath(root)) for number, root in self.roots.items()]
        for path in paths:
            inside = ((number, _inside(_relative(path, root))) for number, root in roots)
            yield next((key_of(number, found) for number, found in inside if found), None)


def _relative(path: str, root: str) -> str:
    try:
        return os.path.relpath(path, root)
    except ValueError:  # another drive
        return path


def _inside(path: str) -> str | None:
    """A path inside a folder as it is in a key, the folder itself as nothing; None where it leads out of the folder."""
    found = path.replace(os.sep, "/")
    if os.path.isabs(path) or found.split("/")[0] == "..":
        return None
    return "" if found == "." else found
