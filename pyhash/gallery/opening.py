"""Opening a gallery's SQLite file: made if it is not there, brought to today's schema, errors explained."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from zlib import crc32

from ..errors import GalleryDamagedError, GalleryError
from ..support import DISTRIBUTION, files
from .schema import APPLICATION_ID, FROM_1, SCHEMA, TABLES

_log = logging.getLogger("pyhash")
_BUSY_SECONDS = 30.0
_ROOM = 1 << 20
CHECKSUM_BITS = 0xFFFFFFFF


def checksum(number: int, *values: bytes) -> int:
    """Return what is stored beside the bytes of a row or an image."""
    total = number & CHECKSUM_BITS
    for value in values:
        total = crc32(value, total)
    return total


def open_file(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Open the file, or make it; refuse what is not a gallery. Return a second connection that notices changes."""
    if not path.exists():
        _create(path)
    elif path.is_file() and path.stat().st_size == 0:
        raise GalleryError(
            f"{path} is empty, and so not a pyhash gallery; it was left as it is. Delete it, or keep the gallery "
            "somewhere else (--gallery FILE)"
        )
    uri = _uri(path)
    opened: list[sqlite3.Connection] = []
    try:
        with explained(path):
            opened.append(_connect(uri))
            if _schema(path, opened[0]) != SCHEMA:
                if "mode=ro" in uri:
                    opened.append(_connect(":memory:"))
                    opened[0].backup(opened[1])
                    opened.pop(0).close()
                _log.info("bringing the gallery %s to format %d", path, SCHEMA)
                _migrate(opened[0])
                opened[0].execute(f"PRAGMA query_only = {'mode=ro' in uri}")
            # Threads ask it all at once: a statement that is kept would be shared, and one thread get another's row.
            opened.append(_connect(uri, cached_statements=0))
            return opened[0], opened[1]
    except BaseException:
        for db in opened:
            db.close()
        raise


def _uri(path: Path) -> str:
    uri = path.absolute().as_uri()
    if is_writable(path):
        return uri + "?mode=rw"
    # WAL needs files beside the database even to read, unless nobody can be writing.
    alone = not path.with_name(path.name + "-wal").exists()
    return uri + ("?mode=ro&immutable=1" if alone else "?mode=ro")


def is_writable(path: Path) -> bool:
    """Whether a gallery's file can be changed: it, and what lies beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def is_gallery(path: Path) -> bool:
    """Whether a file says that it is a gallery's. SQLite looks: who else closes a file drops the locks on it."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            return bool(db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)
    except sqlite3.Error:
        return False


def connect(path: Path, *, new: bool = False, damaged: bool = False) -> sqlite3.Connection:
    """Return one more connection to a gallery's file, or to a `new` file; nothing is known of what is in it.

    Where the file's table of contents is `damaged`, what else it names can still be read.
    """
    return _connect(path.absolute().as_uri() if new else _uri(path), damaged=damaged)


def _connect(uri: str, *, damaged: bool = False, **options: int) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, **options)
    try:
        if damaged:
            db.execute("PRAGMA writable_schema = ON")
        db.create_function("checksum", 2, checksum, deterministic=True)
        db.execute("PRAGMA trusted_schema = OFF")  # the file may come with a folder from someone else
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
    except BaseException:
        db.close()
        raise
    return db


def _schema(path: Path, db: sqlite3.Connection) -> int:
    """Return which schema the file has, 0 for the first; refuse what is none of ours."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise GalleryError(f"{path} is an SQLite file, but not a pyhash gallery; it was left as it is")
    schema: int = db.execute("PRAGMA user_version").fetchone()[0]
    if schema not in (0, SCHEMA):
        raise GalleryError(
            f"{path} has gallery format {schema}, but this pyhash reads format {SCHEMA} and older; a newer one can "
            f"read it: pip install --upgrade {DISTRIBUTION}"
        )
    return schema


def _migrate(db: sqlite3.Connection) -> None:
    """Make schema 2 of schema 1: all at once, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA user_version").fetchone() == (0,):  # no other process did it meanwhile
            for statement in FROM_1:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _create(path: Path) -> None:
    """Make an empty gallery: beside the path first, so that whoever sees the file sees it whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GalleryError(
            f"cannot make the folder {path.parent}: {error.strerror}. Keep the gallery somewhere else (--gallery FILE)"
        ) from error
    temporary = files.temporary_for(path)
    try:
        with explained(path):
            db = _connect(temporary.absolute().as_uri())
            try:
                fill(db)
                db.execute("PRAGMA journal_mode = WAL")  # the file keeps it
            finally:
                db.close()
        with contextlib.suppress(FileExistsError):  # another process was first
            files.publish(temporary, path)
    except OSError as error:
        raise GalleryError(
            f"cannot write the gallery {path} ({error.strerror}). Keep it somewhere else (--gallery FILE)"
        ) from error
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def fill(db: sqlite3.Connection) -> None:
    """Make an empty gallery of an empty database."""
    db.execute("BEGIN")
    for statement in TABLES:
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA}")
    db.execute("COMMIT")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ones that say what to do."""
    try:
        yield
    except (UnicodeDecodeError, sqlite3.Error) as error:
        raise explanation(path, error) from error


def explanation(path: Path, error: UnicodeDecodeError | sqlite3.Error) -> GalleryError:
    """Return the error that says what to do about one of SQLite's."""
    if isinstance(error, UnicodeDecodeError):  # SQLite's message quotes what it could not understand
        return damaged(path, "its table of contents cannot be read")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        text = f"the gallery {path} is locked by another process for {_BUSY_SECONDS:.0f} s; try again later"
    elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        verb = "write" if os.access(path if path.exists() else path.parent, os.R_OK) else "read"
        text = f"cannot {verb} the gallery {path} ({error}). Keep it somewhere else (--gallery FILE)"
    elif code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        text = f"the disk of the gallery {path} is full ({error}). Make room and run it again: nothing is lost"
    elif code == sqlite3.SQLITE_IOERR:
        text = f"writing or reading the gallery {path} failed: {error}"
    elif code == sqlite3.SQLITE_NOTADB:
        text = f"{path} is not a pyhash gallery: {error}; it was left as it is"
    elif isinstance(error, sqlite3.ProgrammingError):
        closed = "closed" in str(error)  # SQLite has no code for it
        text = f"the gallery {path} {'is closed' if closed else f'cannot be used: {error}'}"
    else:
        return damaged(path, str(error))
    return GalleryError(text)


def _is_full(path: Path) -> bool:
    """Whether the disk of a file has less room than SQLite needs beside it, even to read."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(path.parent).free < _ROOM
    return False


def damaged(path: Path, what: str) -> GalleryError:
    """Return the error to raise when a file holds what no gallery holds."""
    return GalleryDamagedError(f"the gallery {path} is damaged ({what}); `pyhash check FOLDER --repair` repairs it")
