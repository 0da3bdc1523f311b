"""Files that get another place: never over another file, and whole under one of two names at any moment."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any, NamedTuple

from ..support import files
from .seen import Refusal, Seen, check, digest_of

__all__ = ["Metadata", "link_over", "metadata_of", "move", "remove_temporary", "separate", "temporary_for"]

_CHUNK = 1 << 20
_CANNOT_LINK = frozenset(
    number
    for name in ("EXDEV", "EPERM", "EACCES", "EMLINK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL")
    if (number := getattr(errno, name, None)) is not None
)
"""Another file system, or one without links, or not allowed to this user: there a copy is made."""


class Metadata(NamedTuple):
    """What belongs to a file beside its bytes."""

    mode: int
    owner: tuple[int, int]
    times: tuple[int, int]
    """Of the last access and the last change, in nanoseconds."""
    attributes: dict[str, bytes]
    """Those that the system calls extended, as far as they can be read."""

    def as_json(self) -> dict[str, Any]:
        """Return what `of_json` reads."""
        attributes = {name: base64.b64encode(value).decode("ascii") for name, value in self.attributes.items()}
        return {
            "mode": self.mode,
            "owner": [*self.owner],
            "times": [*map(str, self.times)],
            "attributes": attributes,
        }

    @classmethod
    def of_json(cls, read: dict[str, Any]) -> Metadata:
        """Return what `as_json` wrote."""
        owner, times = map(int, read["owner"]), map(int, read["times"])
        attributes = {name: base64.b64decode(value) for name, value in read["attributes"].items()}
        return cls(int(read["mode"]), (next(owner), next(owner)), (next(times), next(times)), attributes)

    def give(self, path: str) -> None:
        """Give it to a file, as far as this user may."""
        if hasattr(os, "chown"):
            with contextlib.suppress(OSError):
                os.chown(path, *self.owner)
        for name, value in self.attributes.items():
            with contextlib.suppress(OSError):
                os.setxattr(path, name, value)
        os.chmod(path, self.mode)
        os.utime(path, ns=self.times)


def metadata_of(path: str) -> Metadata:
    """Return what belongs to a file beside its bytes."""
    now = os.lstat(path)
    attributes: dict[str, bytes] = {}
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return Metadata(stat.S_IMODE(now.st_mode), (now.st_uid, now.st_gid), (now.st_atime_ns, now.st_mtime_ns), attributes)


def temporary_for(path: str) -> str:
    """A name beside a file for what is to take its place."""
    return os.fspath(files.temporary_for(Path(path)))


def remove_temporary(path: str) -> None:
    """Remove a file of a name that `temporary_for` gave; of another name it is left."""
    if files.is_temporary(path):
        with contextlib.suppress(OSError):
            os.unlink(path)


def move(seen: Seen, target: str, temporary: str) -> None:
    """Move a file that is what was seen to a name that nothing has.

    On one file system it gets its new name before it loses the old one. Else a copy is made beside the target, written
    through to the disk and read again before it gets the name.

    Raises
    ------
    FileExistsError
        When something has the name; it is left as it is.
    Refusal
        When the file has changed.
    OSError
        When the disk is full and the like; the file is where it was.
    """
    try:
        os.link(seen.path, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        _copy(seen, temporary, metadata_of(seen.path))
        try:
            files.publish(temporary, target)
        except BaseException:
            remove_temporary(temporary)
            raise
    else:
        files.sync(Path(target).parent)
    try:
        check(seen, bytes_too=False)
        os.unlink(seen.path)
    except FileNotFoundError:
        pass  # another process was faster; or a remote system did it twice
    except (OSError, Refusal):
        os.unlink(target)
        raise
    files.sync(Path(seen.path).parent)


def link_over(seen: Seen, kept: Seen, temporary: str) -> None:
    """Put another name of the kept file in the place of a file that is what was seen, at once."""
    os.link(kept.path, temporary)
    try:
        check(kept._replace(path=temporary), bytes_too=False)
        check(seen, bytes_too=False)
        os.replace(temporary, seen.path)
    except BaseException:
        remove_temporary(temporary)
        raise
    files.sync(Path(seen.path).parent)


def separate(seen: Seen, metadata: Metadata, temporary: str) -> None:
    """Make a file of its own of one that has several names, at once; it gets what belonged to it beside its bytes."""
    _copy(seen, temporary, metadata)
    try:
        check(seen, bytes_too=False)
        os.replace(temporary, seen.path)
    except BaseException:
        remove_temporary(temporary)
        raise
    files.sync(Path(seen.path).parent)


def _copy(seen: Seen, temporary: str, metadata: Metadata) -> None:
    """Copy a file to a new name, through to the disk; Refusal where the copy has other bytes than were seen."""
    try:
        with open(seen.path, "rb") as source, open(temporary, "xb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
            file.flush()
            metadata.give(temporary)
            os.fsync(file.fileno())
        if digest_of(temporary) != seen.digest:
            raise Refusal("the copy of it has other bytes")
    except BaseException:
        remove_temporary(temporary)
        raise
