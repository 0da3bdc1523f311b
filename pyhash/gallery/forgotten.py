"""What the user has forgotten: paths that a gallery holds no more and takes in no more."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from collections.abc import Iterable, Iterator
from zlib import crc32

from ..images import Walk

_TOTAL = "forgotten"  # the setting that holds the sum of the paths' checksums, by which a damaged path is noticed
_TRACES = "traces"


class Forgotten:
    """The table `forgotten` of one open gallery file; everything happens inside its transactions.

    A path is inside the folder, with forward slashes; a subfolder's ends in one, and stands for all that lies under it.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def paths(self) -> list[str]:
        """All of them, in order."""
        found = self._db.execute("SELECT path FROM forgotten WHERE folder = 1 ORDER BY path").fetchall()
        return [os.fsdecode(path) for (path,) in found]

    def holds(self, path: str) -> bool:
        """Whether a path is forgotten, by itself or with a folder."""
        marks = [*map(os.fsencode, _with_folders(path))]
        places = ", ".join("?" * len(marks))
        query = f"SELECT 1 FROM forgotten WHERE folder = 1 AND path IN ({places})"
        return self._db.execute(query, marks).fetchone() is not None

    def left_of(self, found: Walk, folder: str) -> Walk:
        """Return what a walk found in the gallery's folder without what is forgotten."""
        forgotten = self.paths()
        if not forgotten:
            return found
        root = os.path.join(folder, "")
        found = dataclasses.replace(found, excluded=found.excluded | {*forgotten})
        images = [image for image in found.images if not found.excludes(image.path)]
        failed = [
            error for error in found.failed if not found.excludes(error.path.removeprefix(root).replace(os.sep, "/"))
        ]
        return dataclasses.replace(found, images=images, failed=failed)

    def add(self, paths: Iterable[str]) -> None:
        """Remember paths; what lies under one of them needs no place of its own."""
        for path in paths:
            if not self.holds(path):
                self.drop([path])
                self._db.execute("INSERT INTO forgotten VALUES (1, ?)", (os.fsencode(path),))
                self._set(_TOTAL, self._setting(_TOTAL) + crc32(os.fsencode(path)))

    def drop(self, paths: Iterable[str]) -> None:
        """No longer remember paths, nor what lies under them."""
        for path in map(os.fsencode, paths):
            where = "folder = 1 AND (path = ? OR substr(path, 1, ?) = ?)"
            folder = path if path.endswith(b"/") else path + b"/"
            values = (path, len(folder), folder)
            gone = self._db.execute(f"SELECT path FROM forgotten WHERE {where}", values).fetchall()
            self._db.execute(f"DELETE FROM forgotten WHERE {where}", values)
            self._set(_TOTAL, self._setting(_TOTAL) - sum(crc32(path) for (path,) in gone))

    def is_whole(self) -> bool:
        """Whether the table holds what was put there."""
        return self._setting(_TOTAL) == self._sum()

    def accept(self) -> None:
        """Take what is in the table for what was put there."""
        self._set(_TOTAL, self._sum())

    def _sum(self) -> int:
        found = self._db.execute("SELECT path FROM forgotten WHERE folder = 1").fetchall()
        return sum(crc32(path) for (path,) in found if type(path) is bytes)

    def has_traces(self) -> bool:
        """Whether the file may still hold bytes of what was forgotten."""
        return bool(self._setting(_TRACES))

    def note_traces(self, there: bool) -> None:
        """Note whether the file may hold bytes of what was forgotten."""
        self._set(_TRACES, int(there))

    def _setting(self, key: str) -> int:
        row = self._db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return 0 if row is None else int(row[0])

    def _set(self, key: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))


def _with_folders(path: str) -> Iterator[str]:
    """The path and the folders that it lies in."""
    yield path
    end = path.rstrip("/").rfind("/")
    while end >= 0:
        yield path[: end + 1]
        end = path.rfind("/", 0, end)
