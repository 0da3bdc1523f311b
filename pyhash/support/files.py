"""Writing a file whole or not at all, and never over what is not of pyhash's own making."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import ForeignFileError

__all__ = ["check_target", "is_temporary", "publish", "replacing", "sweep", "sync", "temporary_for", "write"]

_TEMPORARY = re.compile(r"\.\d+\.[0-9a-f]{8}\.tmp(-journal|-wal|-shm)?")
_LEFT_SECONDS = 3600.0
"""A temporary file that nobody has written to for so long is left of a process that was killed."""
_LOOKED_AT = 1 << 16  # bytes of either end of a file, in which a mark of ours is looked for


def check_target(path: str | os.PathLike[str], marks: Sequence[bytes], *, overwrite: bool = False) -> Path:
    """Return where `write` would write: the file that a link names.

    Parameters
    ----------
    path : path
    marks : sequence of bytes
        A file that is there is of our own making if it has one of them, near its beginning or end; or if it is empty.
    overwrite : bool
        Replace any plain file.

    Raises
    ------
    ForeignFileError
        When a file is there that is not of our own making, or is no plain file.
    IsADirectoryError
        When it is a folder.
    """
    target = Path(os.path.realpath(path))
    if not target.name or target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "path must name a file, not a folder", os.fspath(path))
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(target)
        if not stat.S_ISREG(status.st_mode):
            raise ForeignFileError(errno.EEXIST, "path must name a plain file, not a device or a pipe", os.fspath(path))
        if not overwrite and status.st_size and not _is_marked(target, status.st_size, marks):
            raise ForeignFileError(
                errno.EEXIST,
                "a file that pyhash did not write is there, and is left as it is; give another name, or overwrite it "
                "(overwrite=True, --overwrite)",
                os.fspath(path),
            )
    return target


def write(
    path: str | os.PathLike[str],
    parts: Iterable[bytes | memoryview],
    marks: Sequence[bytes],
    *,
    overwrite: bool = False,
) -> None:
    """Write a file so that at any moment the path holds the old content or the new, whole, even after a power cut.

    A link stays one, and whoever might read or owned the old file may read or owns the new one.

    Parameters
    ----------
    path, marks, overwrite
        As for `check_target`, which is asked first; what it raises is raised here.
    parts : iterable of bytes
        The content, piece by piece.
    """
    with replacing(path, check_target(path, marks, overwrite=overwrite)) as temporary, open(temporary, "xb") as file:
        for part in parts:
            file.write(part)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], target: Path) -> Iterator[Path]:
    """Give the name of a file to write, which then takes the target's place at once, or is removed after an exception.

    Parameters
    ----------
    path : path
        What an OSError names.
    target : path
        As `check_target` returns it. Its rights and owner stay.
    """
    temporary = temporary_for(target)
    sweep(target)
    try:
        with _naming(path, temporary):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):
                status = os.stat(target)
                os.chmod(temporary, stat.S_IMODE(status.st_mode))
                if hasattr(os, "chown"):
                    os.chown(temporary, status.st_uid, status.st_gid)
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync(target.parent)


def temporary_for(target: Path) -> Path:
    """Return a name of its own beside a file, for what is to take the file's place."""
    return target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def is_temporary(path: str | os.PathLike[str]) -> bool:
    """Return whether a file has a name that `temporary_for` may have given."""
    return re.fullmatch(r"\..+" + _TEMPORARY.pattern, os.path.basename(path), re.DOTALL) is not None


def sweep(target: Path) -> None:
    """Remove what processes that were killed have left of files that were to take this one's place."""
    before = time.time() - _LEFT_SECONDS
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        start = f".{target.name}"
        for entry in entries:
            if entry.name.startswith(start) and _TEMPORARY.fullmatch(entry.name, len(start)):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)


def publish(temporary: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Give a finished file, which lies in the same folder, its name: whoever sees that name sees the file whole.

    Raises
    ------
    FileExistsError
        When something has that name; it is left as it is, and so is the finished file.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: between the two steps another process might come
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path)) from None
        os.replace(temporary, path)
    else:
        os.unlink(temporary)
    sync(Path(path).parent)


def sync(folder: Path) -> None:
    """Have new names in a folder survive a power cut."""
    if os.name == "posix":
        with contextlib.suppress(OSError):  # some file systems cannot do it, and the files are there
            directory = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def _is_marked(path: Path, size: int, marks: Sequence[bytes]) -> bool:
    try:
        with open(path, "rb") as file:
            ends = file.read(_LOOKED_AT)
            file.seek(max(0, size - _LOOKED_AT))
            ends += file.read(_LOOKED_AT)
    except OSError:  # what cannot be read is not known to be ours
        return False
    return any(mark in ends for mark in marks)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str], temporary: Path) -> Iterator[None]:
    """Have an OSError name the file that was asked for, not the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, os.fspath(temporary)):
            error.filename, error.filename2 = os.fspath(path), None
        raise
