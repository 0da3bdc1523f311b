"""What a file was when it was looked at, and whether it is that still."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from io import BufferedReader
from typing import NamedTuple

__all__ = ["Folders", "Refusal", "Seen", "check", "digest_of", "is_under", "look_at", "refusing", "status_of"]

_DIGEST_BYTES = 16


class Refusal(Exception):
    """Why something is not done to a file; the rest goes on."""


class Seen(NamedTuple):
    """What a file was when it was looked at."""

    path: str
    """Absolute; its folders are no links."""
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: bytes
    """BLAKE2b of its bytes, 16 of them."""


def look_at(path: str) -> Seen:
    """Look at a plain file, its bytes too; Refusal where there is none, or where it changes meanwhile."""
    before = status_of(path)
    digest = digest_of(path)
    now = status_of(path)
    if _signature(now) != _signature(before):
        raise Refusal("it changes while it is read")
    return Seen(path, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, digest)


def check(seen: Seen, *, bytes_too: bool = True) -> os.stat_result:
    """Return the status of a file that is what it was; Refusal where it is not.

    Some mounts number inodes anew, and a new link or name gives a file another ctime; but a file that was put in
    another's place has another inode and another ctime.
    """
    now = status_of(seen.path)
    if (now.st_size, now.st_mtime_ns) != (seen.size, seen.mtime_ns):
        raise Refusal("it has changed since it was compared")
    if now.st_ino != seen.inode and now.st_ctime_ns != seen.ctime_ns:
        raise Refusal("another file has taken its place since it was compared")
    if bytes_too:
        if digest_of(seen.path) != seen.digest:
            raise Refusal("its bytes have changed since it was compared")
        if _signature(status_of(seen.path)) != _signature(now):
            raise Refusal("it changes while it is read")
    return now


def status_of(path: str) -> os.stat_result:
    """Return the status of a plain file; Refusal where there is none."""
    try:
        now = os.lstat(path)
    except (OSError, ValueError) as error:
        raise Refusal(
            "it is not there any more" if isinstance(error, FileNotFoundError | NotADirectoryError) else _why(error)
        ) from error
    if stat.S_ISLNK(now.st_mode):
        raise Refusal("it is a link")
    if not stat.S_ISREG(now.st_mode):
        raise Refusal("it is no plain file")
    return now


def digest_of(path: str) -> bytes:
    """Return what recognises a file by its bytes; Refusal where they cannot be read."""
    with refusing(), _opened(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).digest()


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn an error of the system into the refusal of a step."""
    try:
        yield
    except OSError as error:
        raise Refusal(_why(error)) from error


class Folders:
    """Folders, of which it is asked whether files lie in them: by names, and whatever their folders are called.

    File systems that do not tell large letters from small ones, and folders mounted twice, have several names of one.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        self._paths = [os.path.realpath(path) for path in paths]
        self._same = {status for path in self._paths if (status := _folder_status(path)) is not None}
        self._known: dict[str, bool] = {}

    def hold(self, path: str) -> bool:
        """Whether a file lies in one of them."""
        return self._is_inside(os.path.dirname(path))

    def _is_inside(self, folder: str) -> bool:
        if folder not in self._known:
            above = os.path.dirname(folder)
            self._known[folder] = (
                folder in self._paths
                or _folder_status(folder) in self._same
                or (above != folder and self._is_inside(above))
            )
        return self._known[folder]


def _folder_status(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_under(path: str, folder: str) -> bool:
    """Whether a path lies in a folder, by their names."""
    return path.startswith(os.path.join(folder, ""))


def _opened(path: str) -> BufferedReader:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return open(os.open(path, flags), "rb")


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
