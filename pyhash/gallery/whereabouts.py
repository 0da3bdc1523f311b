"""Where the gallery of a folder lies unless that is said: in the folder, or in the user's data folder.

A gallery goes with its folder, in ``FOLDER/.pyhash``. Where the folder's disk may be taken away, is another machine's,
or cannot be written, the gallery stays here: what a disk holds can then be told while it is away, no gallery comes to
lie on a mount point without its disk, and SQLite finds the shared memory that remote file systems do not have. Such a
folder is told by a mark in it, wherever it is mounted; where it has none, by its path.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ..errors import PyhashError
from ..images import is_empty
from ..support import disks, files, require
from .folders import Place
from .opening import connect, is_gallery
from .place import ENOUGH, share_there
from .results import PathLike

__all__ = ["default_file", "leave_mark"]

_MARK = re.compile(r"[\w-]{1,120}")
_LOOKED_FOR = 64  # images of a gallery, to see whether they lie in a folder


def default_file(folder: PathLike) -> Path:
    """Where the gallery of a folder is kept unless told otherwise.

    That is ``FOLDER/.pyhash/gallery.sqlite``; but where the folder's disk may be taken away, is another machine's, or
    cannot be written, a file in the user's data folder, once more found when the disk is away or mounted elsewhere.
    """
    inside = Path(folder) / ".pyhash" / "gallery.sqlite"
    if inside.exists():
        return inside
    found = _known(folder)
    if found is not None:
        return found
    return _new(folder) if _lies_apart(folder) else inside


def leave_mark(folder: PathLike, file: Path) -> None:
    """Have the folder of a gallery that lies in the user's data folder say so, as far as it can be written."""
    if not _data_folder_is_known() or file.parent != _galleries() or _mark_of(folder) == file.stem:
        return
    if is_empty(folder):
        return  # a mount point without its disk
    path = _mark_path(folder)
    with contextlib.suppress(OSError, PyhashError):
        path.parent.mkdir(exist_ok=True)
        files.write(path, [file.stem.encode()], (), overwrite=True)


def _data_folder_is_known() -> bool:
    """Whether there can be galleries in the user's data folder: the package is there that knows where that is."""
    with contextlib.suppress(ImportError):
        import platformdirs  # noqa: F401

        return True
    return False


def _galleries() -> Path:
    path: Path = require("platformdirs", "encoder").user_data_path("pyhash", appauthor=False) / "galleries"
    return path


def _lies_apart(folder: PathLike) -> bool:
    """Whether a folder's gallery is better kept elsewhere."""
    if not os.path.isdir(folder):
        return False
    return not os.access(folder, os.W_OK) or (disks.comes_and_goes(folder) and not _beside_data(folder))


def _beside_data(folder: PathLike) -> bool:
    """Whether a folder and the user's data lie on one disk: they come and go together."""
    there = next(path for path in (_galleries(), *_galleries().parents) if path.exists())
    return os.stat(folder).st_dev == os.stat(there).st_dev


def _known(folder: PathLike) -> Path | None:
    """The gallery in the user's data folder that is of a folder."""
    if not _data_folder_is_known() or not _galleries().is_dir():
        return None
    mark, here = _mark_of(folder), Place.of(os.fspath(folder))
    if mark is not None:
        file = _galleries() / f"{mark}.sqlite"
        return file if is_gallery(file) and not _is_of_original(file, mark, here) else None
    away = not os.path.isdir(folder) or is_empty(folder)
    for file in sorted(_galleries().glob("*.sqlite")):
        for path, device, sizes in _places(file):
            if path == here.path and (
                away or device == here.device or not sizes or share_there(sizes, os.fspath(folder)) >= ENOUGH
            ):
                return file
    return None


def _is_of_original(file: Path, mark: str, here: Place) -> bool:
    """Whether a folder with a mark is a copy of another that is still there, and whose gallery this is."""
    others = (os.fsdecode(path) for path, _, _ in _places(file) if path is not None and path != here.path)
    return any(_mark_of(other) == mark and not os.path.samefile(other, os.fsdecode(here.path)) for other in others)


def _places(file: Path) -> Iterator[tuple[bytes | None, str | None, dict[str, int]]]:
    """The folders of a gallery, each with its path, its device, and the sizes of some of its images."""
    with contextlib.suppress(sqlite3.Error), closing(connect(file)) as db:
        for number, path, device in db.execute("SELECT id, path, device FROM folders ORDER BY id").fetchall():
            some = db.execute(
                "SELECT path, size FROM images WHERE folder = ? AND error IS NULL LIMIT ?", (number, _LOOKED_FOR)
            )
            yield path, device, {os.fsdecode(image): size for image, size in some.fetchall()}


def _new(folder: PathLike) -> Path:
    """A name for a folder's gallery: that of its mark where it has one from elsewhere, else a readable one."""
    mark, place = _mark_of(folder), Place.of(os.fspath(folder))
    if mark is None or (_galleries() / f"{mark}.sqlite").exists():
        told = hashlib.blake2b(place.path + b"\0" + str(place.device).encode(), digest_size=6).hexdigest()
        name = re.sub(r"[^\w-]+", "-", os.path.basename(os.fsdecode(place.path)), flags=re.ASCII).strip("-")[:40]
        mark = f"{name}-{told}" if name else told
    return _galleries() / f"{mark}.sqlite"


def _mark_path(folder: PathLike) -> Path:
    return Path(folder) / ".pyhash" / "mark"


def _mark_of(folder: PathLike) -> str | None:
    try:
        with open(_mark_path(folder), "rb") as file:
            text = file.read(256).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _MARK.fullmatch(text) else None
