"""The trash of the system: where files are put, and where they are found again.

Where they are found again is known of the trash of Linux and its kin (the freedesktop.org Trash specification, 1.0);
elsewhere a person restores them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ..support import require
from .seen import Refusal

__all__ = ["InTrash", "Trash", "put_in_trash"]

_PATH = re.compile(rb"^Path=(.*)$", re.MULTILINE)


class InTrash(NamedTuple):
    """A file in the trash."""

    path: str
    about: str
    """The file that says where it lay."""


def put_in_trash(path: str) -> None:
    """Put a file into the trash; Refusal where that cannot be done."""
    trash = require("send2trash", "trash")
    try:
        trash.send2trash(path)
    except OSError as error:  # TrashPermissionError too
        raise Refusal(f"it cannot be put into the trash: {error.strerror or error}") from error


class Trash:
    """What lies in the trashes of the system, as it was when they were first looked at."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, list[InTrash]]] = {}

    def of(self, path: str) -> list[InTrash]:
        """Return the files in the trash that lay at a path, those that were put there last first."""
        found = []
        for trash, top in _trashes(path):
            if trash not in self._known:
                self._known[trash] = _listed(trash, top)
            found += self._known[trash].get(path, [])
        return found


def _listed(trash: Path, top: str) -> dict[str, list[InTrash]]:
    found = []
    for about in (trash / "info").glob("*.trashinfo"):
        with contextlib.suppress(OSError):
            said = _PATH.search(about.read_bytes())
            if said is not None:
                lay = os.path.normpath(os.path.join(top, os.fsdecode(unquote_to_bytes(said[1].strip()))))
                found.append(
                    (about.stat().st_mtime_ns, lay, InTrash(os.fspath(trash / "files" / about.stem), os.fspath(about)))
                )
    by_path: dict[str, list[InTrash]] = {}
    for _, lay, file in sorted(found, reverse=True):
        by_path.setdefault(lay, []).append(file)
    return by_path


def _trashes(path: str) -> Iterator[tuple[Path, str]]:
    """The trashes that a file may have been put into, and from where their paths are counted."""
    home = os.path.expanduser(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    yield Path(home) / "Trash", os.path.realpath(home)
    if hasattr(os, "getuid"):
        top = os.path.dirname(path)
        while not os.path.ismount(top):
            top = os.path.dirname(top)
        yield Path(top) / ".Trash" / str(os.getuid()), top
        yield Path(top) / f".Trash-{os.getuid()}", top
