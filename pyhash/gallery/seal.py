"""The seal of a gallery's file: a checksum of what is small in it and decides what the rest means."""

from __future__ import annotations

import sqlite3
from zlib import crc32

_SEALED = (
    "SELECT key, value FROM settings WHERE key <> 'seal' ORDER BY key",
    "SELECT id, name, fingerprint, decoder FROM networks ORDER BY id",
    "SELECT id, network, levels, checksum, fitted_on FROM heads ORDER BY id",
    "SELECT name, seq FROM sqlite_sequence ORDER BY name",
)


def seal(db: sqlite3.Connection, *, broken: bool = False) -> None:
    """Note the checksum, at the end of a transaction; a wrong one where it was `broken` before."""
    checksum = -1 if broken else _checksum(db)
    db.execute("INSERT OR REPLACE INTO settings VALUES ('seal', ?)", (f"{_revision(db)} {checksum}",))


def is_broken(db: sqlite3.Connection) -> bool:
    """Whether settings, encoder, levels or counters of ids are not what they were.

    A file that was last changed by a pyhash that knew no seals has none that could tell.
    """
    row = db.execute("SELECT value FROM settings WHERE key = 'seal'").fetchone()
    if row is None or not isinstance(row[0], str):
        return row is not None
    revision, _, checksum = row[0].partition(" ")
    return revision == str(_revision(db)) and checksum != str(_checksum(db))


def _revision(db: sqlite3.Connection) -> object:
    row = db.execute("SELECT value FROM settings WHERE key = 'revision'").fetchone()
    return None if row is None else row[0]


def _checksum(db: sqlite3.Connection) -> int:
    total = 0
    for query in _SEALED:
        for row in db.execute(query):
            total = crc32(repr(row).encode("utf-8", "backslashreplace"), total)
    return total
