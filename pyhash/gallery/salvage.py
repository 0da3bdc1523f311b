"""What can still be read of a damaged file, in a new one; the damaged one is kept beside it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

from ..codes import Levels
from ..errors import GalleryError
from ..images import check_grid
from ..support import files
from .checking import Spot, contents, expected_contents
from .folders import KEY, key_of
from .opening import checksum, connect, explained, fill, open_file
from .part_tables import part_of_row
from .records import Wishes
from .schema import SCHEMA, TABLES
from .seal import is_broken, seal

_TABLES = (  # with what they are ordered by, parents first
    ("settings", "key"),
    ("folders", "id"),
    ("images", "id"),
    ("names", "path"),
    ("forgotten", "path"),
    ("networks", "id"),
    ("heads", "id"),
    ("rows", "id"),
    ("codes", "row"),
    ("embeddings", "id"),
    ("neighbours", "row"),
    ("looks", "image"),
    ("thumbnails", "image"),
    ("verdicts", "one"),
)
_NOT_DAMAGED = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
}
_HEAD = b"SQLite format 3\0\x10\0\2\2\0\x40\x20\x20"  # with pages of 4096 bytes, and a write-ahead log
_PART = 1 << 20  # bytes
_OURS = [
    statement.encode() for statement in TABLES if "checksum" in statement
]  # as they lie in the file, and in no other


def recover(path: Path) -> Path | None:
    """Put what can still be read in the place of a gallery's file that cannot be opened any more.

    Returns
    -------
    Path or None
        Where the damaged file is now; None when the file can be opened, and was left alone.

    Raises
    ------
    GalleryError
        When the file is none of ours, or of a newer pyhash; it was left as it is.
    """
    if not path.is_file():
        raise GalleryError(f"there is no gallery at {path}")
    try:
        for db in open_file(path):
            db.close()
        return None
    except GalleryError as error:
        if getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in _NOT_DAMAGED or not _is_ours(path):
            raise
        why = error
    with _new_file(path) as (temporary, new), _copy_with_a_head(path, temporary) as copy:
        with contextlib.suppress(sqlite3.DatabaseError), closing(connect(copy, damaged=True)) as old:
            if _version(old) not in (0, SCHEMA) and contents(old) != expected_contents():
                raise why
            salvage(old, new)
        new.execute("PRAGMA journal_mode = WAL")
        new.close()
        kept = _free_name(path)
        _set_aside(path, kept)
        os.replace(temporary, path)
    return kept


@contextmanager
def _copy_with_a_head(path: Path, temporary: Path) -> Iterator[Path]:
    """A copy of a damaged file, with first bytes by which SQLite knows what it is."""
    copy = temporary.with_suffix(".copy")
    try:
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        with open(copy, "r+b") as file:
            file.write(_HEAD)
        yield copy
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)


def salvage_into(db: sqlite3.Connection, path: Path) -> Path:
    """Replace the content of an open file by what can still be read of it, at once; return where the old one is kept.

    Other processes see it as any other change.
    """
    kept = _free_name(path)
    with _new_file(path) as (_, new), explained(path):
        with closing(connect(kept, new=True)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")
            db.backup(copy)
        with closing(connect(kept)) as old:
            old.text_factory = new.text_factory = _lenient
            salvage(old, new)
        new.backup(db)
    return kept


def salvage(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Copy all rows that can be read from a damaged file to a new one, and leave out what belongs to nothing."""
    old.text_factory = new.text_factory = _lenient
    old.execute("PRAGMA cell_size_check = OFF")  # what is wrong with one row is no reason to lose its neighbours
    old.execute("BEGIN")
    with contextlib.suppress(sqlite3.DatabaseError):
        _mend_contents(old)
    new.execute("PRAGMA foreign_keys = OFF")
    new.execute("BEGIN")
    new.execute("DELETE FROM settings")
    new.execute("DELETE FROM folders")
    for table, key in _TABLES:
        _copy(old, new, table, key)
    with contextlib.suppress(sqlite3.DatabaseError, OverflowError):
        _take_paths_from_index(old, new)
    new.execute(
        "INSERT OR IGNORE INTO folders (id) SELECT DISTINCT folder FROM images "
        f"WHERE typeof(path) = 'blob' AND checksum(id, {KEY}) = checksum"
    )
    new.execute("INSERT INTO folders (id) SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM folders)")
    _drop_strange_parts(new)
    _drop_strays(new)
    broken = True
    with contextlib.suppress(sqlite3.DatabaseError):
        broken = is_broken(old)
        if not broken:
            for name, number in old.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
                new.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, name))
    new.execute("DELETE FROM settings WHERE key = 'settled'")  # neighbours that are lost are found anew
    revision = _next_revision(new)
    new.executemany(
        "INSERT OR REPLACE INTO settings VALUES (?, ?)", [("revision", revision), ("changes_from", revision)]
    )
    seal(new, broken=broken)
    new.execute("COMMIT")
    old.execute("ROLLBACK")


def _drop_strange_parts(new: sqlite3.Connection) -> None:
    """Drop the rows that are no wholes, which have the ids of their images, and not the parts that they say."""
    for row, *rest in new.execute("SELECT id, image, part, box, name FROM rows WHERE id <> image").fetchall():
        try:
            part_of_row(row, *rest)
        except ValueError:
            new.execute("DELETE FROM rows WHERE id = ?", (row,))


def _mend_contents(old: sqlite3.Connection) -> None:
    """Have a connection take a table of contents for what it is in a gallery, until it rolls back."""
    missing = {str(entry[1]): entry for entry in expected_contents() - contents(old)}
    there = old.execute("SELECT rowid, type, name, tbl_name, sql FROM sqlite_master").fetchall()
    for rowid, *entry in there:
        if tuple(entry) not in expected_contents() and missing:
            name = entry[1] if entry[1] in missing else next(iter(missing))
            update = "UPDATE sqlite_master SET type = ?, name = ?, tbl_name = ?, sql = ? WHERE rowid = ?"
            old.execute(update, (*missing.pop(name), rowid))
    old.execute("PRAGMA writable_schema = RESET")


def drop_damaged(db: sqlite3.Connection, spots: Iterable[Spot]) -> list[int]:
    """Drop what is damaged in a file that can be read, so that it waits to be made again; return the rows concerned."""
    rows: list[int] = []
    for table, key, image, _ in spots:
        if table == "images":
            # The index of paths says the same, or the file could not be read: it is the checksum that is wrong.
            ((path,),) = db.execute(f"SELECT {KEY} FROM images WHERE id = ?", (key,)).fetchall()
            if type(path) is bytes and key is not None and b".." not in path.split(b"/"):
                db.execute("UPDATE images SET checksum = ? WHERE id = ?", (checksum(key, path), key))
            else:
                db.execute("DELETE FROM images WHERE id = ?", (key,))
        elif table == "rows":
            db.execute("INSERT OR IGNORE INTO rows (id, image) VALUES (?1, ?1)", (image,))
            update = "UPDATE rows SET image = id, part = 'whole', box = NULL, name = NULL WHERE id = ?"
            db.execute(update, (image,))
        elif table == "parts":  # its image then lacks it, and is encoded again
            db.execute("DELETE FROM rows WHERE id = ? AND id <> image", (key,))
            rows += [] if key is None else [key]
        elif table == "heads":
            db.execute("UPDATE heads SET matrix = NULL, checksum = NULL, fitted_on = NULL")
            db.execute("DELETE FROM neighbours")
        elif table == "neighbours":
            db.execute("DELETE FROM neighbours WHERE row = ?", (key,))
            rows.append(cast(int, key))
        elif image is not None:
            of_image = [row for (row,) in db.execute("SELECT id FROM rows WHERE image = ?", (image,)).fetchall()]
            for row in of_image:
                for made in ("codes", "embeddings", "neighbours"):
                    db.execute(f"DELETE FROM {made} WHERE row = ?", (row,))
            for made in ("looks", "thumbnails"):
                db.execute(f"DELETE FROM {made} WHERE image = ?", (image,))
            db.execute("UPDATE images SET error = NULL WHERE id = ?", (image,))
            rows += of_image
    return rows


def reset_settings(db: sqlite3.Connection) -> None:
    """Drop settings that may be damaged, but for what the user wished where that can be read, and counters of ids."""
    kept: list[tuple[str, object]] = [(name, _next_revision(db)) for name in ("revision", "changes_from")]
    wished = db.execute("SELECT value FROM settings WHERE key = 'wishes'").fetchone()
    if wished is not None and _are_wishes(wished[0]):
        kept.append(("wishes", wished[0]))
    db.execute("DELETE FROM settings")
    db.executemany("INSERT INTO settings VALUES (?, ?)", kept)
    db.execute(
        "UPDATE sqlite_sequence SET seq = (SELECT coalesce(max(id), 0) FROM "
        "(SELECT id FROM images UNION ALL SELECT id FROM rows)) WHERE name IN ('images', 'rows')"
    )
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'heads'")


def _are_wishes(text: object) -> bool:
    try:
        wishes = Wishes(**json.loads(cast(str, text)))
        fits = type(wishes.adapt) is type(wishes.embeddings) is type(wishes.turned) is bool
        fits = fits and type(wishes.min_size) is int and (not wishes.tiles or check_grid(wishes.tiles) is not None)
        return fits and (wishes.levels is None or bool(Levels(wishes.levels)))
    except (TypeError, ValueError):
        return False


def _next_revision(db: sqlite3.Connection) -> int:
    found = db.execute("SELECT value FROM settings WHERE key IN ('revision', 'changes_from')").fetchall()
    return 1 + max((value for (value,) in found if type(value) is int and 0 <= value < 1 << 62), default=0)


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, key: str) -> None:
    """Copy what lies before the first and after the last page of a table that cannot be read."""
    width = len(new.execute(f"PRAGMA table_info({table})").fetchall())
    insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * width)})"
    for order in ("ASC", "DESC"):
        try:
            for row in old.execute(f"SELECT * FROM {table} ORDER BY {key} {order}"):
                with contextlib.suppress(sqlite3.DatabaseError, OverflowError, UnicodeEncodeError):
                    new.execute(insert, row)
            return
        except (sqlite3.DatabaseError, OverflowError):
            continue


def _take_paths_from_index(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Paths lie in the file twice: take those of the index where an image's own is damaged, or the image gone."""
    known = {
        number: checksum(number, path) == stored
        for number, path, stored in new.execute(f"SELECT id, {KEY}, checksum FROM images")
        if type(path) is bytes
    }
    query = "SELECT id, folder, path FROM images INDEXED BY sqlite_autoindex_images_1 ORDER BY folder, path"
    found = old.execute(query)
    for number, folder, path in itertools.takewhile(lambda row: [*map(type, row)] == [int, int, bytes], found):
        stored = checksum(number, os.fsencode(key_of(folder, os.fsdecode(path))))
        if number not in known:
            insert = (
                "INSERT OR IGNORE INTO images (id, folder, path, size, mtime_ns, checksum) VALUES (?, ?, ?, 0, 0, ?)"
            )
            new.execute(insert, (number, folder, path, stored))
        elif not known[number]:
            update = "UPDATE OR IGNORE images SET folder = ?, path = ? WHERE id = ? AND checksum = ?"
            new.execute(update, (folder, path, number, stored))


def _drop_strays(new: sqlite3.Connection) -> None:
    for table, _ in _TABLES:
        for _, _, parent, column, to, *_ in new.execute(f"PRAGMA foreign_key_list({table})").fetchall():
            new.execute(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT {to or 'id'} FROM {parent})")


@contextmanager
def _new_file(path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """An empty gallery beside a file, removed at the end unless it was moved."""
    temporary = files.temporary_for(path)
    try:
        with explained(path), closing(connect(temporary, new=True)) as new:
            fill(new)
            yield temporary, new
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged{n or ''}") for n in itertools.count())
    return next(name for name in names if not os.path.lexists(name))


def _set_aside(path: Path, kept: Path) -> None:
    """Give a file and its log another name, too; the file keeps its own until another takes its place."""
    for suffix in ("-wal", "-journal"):  # SQLite would take it for that of the new file
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{kept}{suffix}")
    Path(f"{path}-shm").unlink(missing_ok=True)
    try:
        os.link(path, kept)
    except OSError:  # a file system without hard links
        os.replace(path, kept)
    files.sync(path.parent)


def _is_ours(path: Path) -> bool:
    """Whether a file holds the tables of a gallery, whatever its first bytes say."""
    longest = max(map(len, _OURS))
    with contextlib.suppress(OSError), open(path, "rb") as file:
        end = b""
        while part := file.read(_PART):
            if any(statement in end + part for statement in _OURS):
                return True
            end = part[-longest:]
    return False


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def _lenient(text: bytes) -> str:
    return text.decode(errors="surrogateescape")
