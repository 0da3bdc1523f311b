"""Groups of copies made by hand, for tests of what is done with them."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyhash.copies import Copy, Group, carry_out, read_plan, undo


def write(path: Path, content: bytes, seconds: int) -> Path:
    """Write a file that was changed so many seconds after the epoch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(seconds * 10**9 + 1, seconds * 10**9 + 1))
    return path


def copy_of(path: Path, **changes: object) -> Copy:
    """A file as an image that was compared."""
    status = path.stat()
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    return Copy(os.fspath(path), None, 40, 30, status.st_size, status.st_mtime_ns, digest, "PNG", 1.0, "changed")


def group_of(*paths: Path, reason: str = "most pixels") -> Group:
    """Files as copies of one another, the best first."""
    return Group(tuple(map(copy_of, paths)), reason)


def tree(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """The plain files under a folder: what they hold, when they were changed, and who may do what with them."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def own_home(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Have the trash, and the user's data, lie in a folder of the test's own."""
    patch.setenv("HOME", os.fspath(home))
    patch.setenv("XDG_DATA_HOME", os.fspath(home / "data"))
    home.mkdir(exist_ok=True)
    for name in [name for name in sys.modules if name.startswith("send2trash")]:
        patch.delitem(sys.modules, name)  # where the trash lies it finds out once


def act(report: Callable[[int], object], plan: Path | None, undo_file: Path, number: int) -> None:
    """Carry out a plan, or undo it where it is None; killed before the system does the thing of this number.

    The trash lies in a folder "home" beside the undo file.
    """
    home = undo_file.parent / "home"
    os.environ |= {"HOME": os.fspath(home), "XDG_DATA_HOME": os.fspath(home / "data")}
    if number:
        sys.addaudithook(_Killing(number))
    if plan is None:
        undo(undo_file)
    else:
        carry_out(read_plan(plan), undo_file)
    report(1)


class _Killing:
    """Kills the process before its n-th change of files and names."""

    _CHANGES = frozenset({"os.link", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.utime", "os.chmod", "open"})

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in self._CHANGES:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
