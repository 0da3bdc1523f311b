"""What the user has forgotten: paths that a gallery holds no more and takes in no more."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from collections.abc import Iterable, Iterator
from zlib import crc32

from ..images import Walk
from .folders import as_folder, key_of, split

_TOTAL = "forgotten"  # the setting that holds the sum of the paths' checksums, by which a damaged path is noticed
_TRACES = "traces"


class Forgotten:
    """The table `forgotten` of one open gallery file; everything happens inside its transactions.

    It holds keys; a subfolder's ends in a slash, and stands for all that lies under it.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def keys(self) -> list[str]:
        """All of them, in order."""
        found = self._db.execute("SELECT folder, path FROM forgotten ORDER BY folder, path").fetchall()
        return [key_of(folder, os.fsdecode(path)) for folder, path in found]

    def holds(self, key: str) -> bool:
        """Whether a key is forgotten, by itself or with a folder around it."""
        folder, path = split(key)
        marks = [*map(os.fsencode, _with_folders(path))]
        places = ", ".join("?" * len(marks))
        query = f"SELECT 1 FROM forgotten WHERE folder = ? AND path IN ({places})"
        return self._db.execute(query, (folder, *marks)).fetchone() is not None

    def left_of(self, found: Walk, folder: str, number: int) -> Walk:
        """Return what a walk found in the folder of a number without what is forgotten there."""
        forgotten = [path for its, path in map(split, self.keys()) if its == number]
        if not forgotten:
            return found
        root = os.path.join(folder, "")
        found = dataclasses.replace(found, excluded=found.excluded | {*forgotten})
        images = [image for image in found.images if not found.excludes(image.path)]
        failed = [
            error for error in found.failed if not found.excludes(error.path.removeprefix(root).replace(os.sep, "/"))
        ]
        return dataclasses.replace(found, images=images, failed=failed)

    def add(self, keys: Iterable[str]) -> None:
        """Remember keys; what lies under one of them needs no place of its own."""
        for key in keys:
            if not self.holds(key):
                self.drop([key])
                folder, path = split(key)
                self._db.execute("INSERT INTO forgotten VALUES (?, ?)", (folder, os.fsencode(path)))
                self._set(_TOTAL, self._setting(_TOTAL) + crc32(os.fsencode(key)))

    def drop(self, keys: Iterable[str]) -> None:
        """No longer remember keys, nor what lies under them."""
        for key in keys:
            number, path = split(key)
            name, around = os.fsencode(path), os.fsencode(as_folder(key)[len(key) - len(path) :])
            where = "folder = ? AND (path = ? OR substr(path, 1, ?) = ?)"
            values = (number, name, len(around), around)
            found = self._db.execute(f"SELECT path FROM forgotten WHERE {where}", values).fetchall()
            self._db.execute(f"DELETE FROM forgotten WHERE {where}", values)
            gone = (os.fsencode(key_of(number, os.fsdecode(path))) for (path,) in found)
            self._set(_TOTAL, self._setting(_TOTAL) - sum(map(crc32, gone)))

    def is_whole(self) -> bool:
        """Whether the table holds what was put there."""
        return self._setting(_TOTAL) == self._sum()

    def accept(self) -> None:
        """Take what is in the table for what was put there."""
        self._set(_TOTAL, self._sum())

    def _sum(self) -> int:
        found = self._db.execute("SELECT folder, path FROM forgotten").fetchall()
        keys = (key_of(folder, os.fsdecode(path)) for folder, path in found if type(path) is bytes)
        return sum(crc32(os.fsencode(key)) for key in keys)

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
