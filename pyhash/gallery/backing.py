"""Copies of a gallery's file, made while it is in use."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import ForeignFileError, GalleryError
from ..support import files
from .opening import connect, explained, is_gallery
from .results import PathLike
from .update import Progress

_PAGES = 1024  # copied at once: between them an interrupt is seen


def back_up(file: Path, path: PathLike, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
    """Do what `Gallery.backup` promises."""
    if os.path.exists(path) and os.path.samefile(path, file):
        raise ValueError(f"path must not be the gallery itself, got {os.fspath(path)}")
    target = files.check_target(path, (), overwrite=overwrite or is_gallery(Path(path)))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", os.fspath(target.parent))
    with files.replacing(path, target) as temporary:
        temporary.touch(exist_ok=False)  # where that fails, it says why better than SQLite does
        try:
            with _one_state(file) as source, explained(target), closing(connect(temporary, new=True)) as copy:
                os.chmod(temporary, os.stat(file).st_mode & 0o777)
                copy.execute("PRAGMA journal_mode = OFF")  # what is not finished is removed
                source.backup(copy, pages=_PAGES, progress=_shown(progress), sleep=0.001)
        finally:
            Path(f"{temporary}-journal").unlink(missing_ok=True)
        _close_what_is_there(target)
    return target


@contextmanager
def _one_state(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees the file as it is now, whatever others write meanwhile."""
    with explained(file), closing(connect(file)) as source:
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield source


def _close_what_is_there(target: Path) -> None:
    """See to it that nothing lies beside the target that belongs to the file that was there: SQLite would take it for
    the copy's.
    """
    if is_gallery(target):
        with contextlib.suppress(sqlite3.DatabaseError), closing(connect(target)) as old:
            old.execute("PRAGMA busy_timeout = 1000")
            try:
                old.execute("PRAGMA journal_mode = DELETE")
            except sqlite3.OperationalError as error:
                raise GalleryError(f"the gallery {target} cannot be replaced while it is in use ({error})") from error
    for suffix in ("-wal", "-journal"):
        if os.path.exists(f"{target}{suffix}"):
            raise ForeignFileError(
                errno.EEXIST, "this would be taken for a part of the copy; give another name", f"{target}{suffix}"
            )


def _shown(progress: Progress | None) -> Callable[[int, int, int], None]:
    def show(status: int, left: int, total: int) -> None:
        if progress is not None:
            progress(total - left, total)

    return show
