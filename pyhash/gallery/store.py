"""The SQLite file of a gallery: pictures with their codes, and whose codes they are."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import GalleryError, GalleryMismatchError
from ..support import held, locked, release

_APPLICATION_ID = 0x70796861  # "pyha": how SQLite marks whose file this is
_SCHEMA = 1
_BUSY_SECONDS = 30.0
_LOAD_ROWS = 65536

_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # A row with neither code nor error waits to be encoded again. AUTOINCREMENT: the id of a picture that has
    # gone is never given to another one.
    "CREATE TABLE pictures (id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL UNIQUE, "
    "size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, code BLOB, error TEXT, "
    "CHECK (code IS NULL OR error IS NULL))",
)
_UPSERT = (
    "INSERT INTO pictures (path, size, mtime_ns, code, error) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (path) DO UPDATE SET "
    "size = excluded.size, mtime_ns = excluded.mtime_ns, code = excluded.code, error = excluded.error"
)


class Identity(NamedTuple):
    """Whose codes a file holds."""

    name: str
    fingerprint: str
    levels: dict[str, int]


class Record(NamedTuple):
    """What is stored of one picture; the path is inside the folder, with forward slashes."""

    path: str
    size: int
    mtime_ns: int
    code: bytes | None
    error: str | None


class Known(NamedTuple):
    """What a stored picture was when it was last looked at."""

    id: int
    size: int
    mtime_ns: int
    has_code: bool
    error: str | None


class GalleryFile:
    """One open gallery file. Everything but `close` happens inside a `transaction`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = _connect(path)
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connection."""
        locked(self._lock, self._db.close)

    @contextmanager
    def transaction(self, writer: Identity | None = None, *, rebuild: bool = False) -> Iterator[None]:
        """All or nothing, on one snapshot, one thread at a time.

        Only with a `writer` can the file be changed; it is refused when the codes are of another encoder,
        unless it is there to `rebuild` the file.
        """
        before = held([self._lock])
        try:
            with self._lock, _explained(self.path):
                self._db.execute("BEGIN" if writer is None else "BEGIN IMMEDIATE")
                try:
                    if writer is not None:
                        if not rebuild:
                            self.refuse_other(writer)  # another process may have rebuilt the file meanwhile
                        self._describe(writer)
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
        except BaseException:
            release([self._lock], before)
            raise

    def _meta(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT key, value FROM meta"))

    def _describe(self, writer: Identity) -> None:
        values = {
            "encoder": writer.name,
            "fingerprint": writer.fingerprint,
            "levels": json.dumps(writer.levels),
        }
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
        self._db.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")

    def refuse_other(self, encoder: Identity) -> None:
        """Raise GalleryMismatchError when the codes are not this encoder's."""
        stored = self.identity()
        if stored is not None and stored.fingerprint != encoder.fingerprint:
            raise GalleryMismatchError(
                f"the gallery {self.path} holds codes of the encoder {stored.name!r} with fingerprint "
                f"{stored.fingerprint}, but this is the encoder {encoder.name!r} with fingerprint "
                f"{encoder.fingerprint}; their codes cannot be compared. Give the encoder that made the "
                "gallery (--encoder MODEL, and --fast-jpeg if it was made so), or encode every picture again "
                "(`pyhash index FOLDER --rebuild`)"
            )

    def identity(self) -> Identity | None:
        """Whose codes these are; None before the first picture."""
        meta = self._meta()
        if "fingerprint" not in meta:
            return None
        try:
            levels = json.loads(meta["levels"])
            usable = bool(levels) and all(type(bits) is int and bits > 0 for bits in levels.values())
        except (KeyError, ValueError, AttributeError):
            usable = False
        if not usable:
            raise self.damaged(f"levels must be a JSON object of whole numbers, got {meta.get('levels')!r:.80}")
        return Identity(meta.get("encoder", ""), meta["fingerprint"], levels)

    def revision(self) -> str | None:
        """Differs after every change of the file, by any process."""
        return self._meta().get("revision")

    def count(self) -> tuple[int, int]:
        """How many pictures have a code, and how many are known to be bad."""
        return cast(tuple[int, int], self._db.execute("SELECT count(code), count(error) FROM pictures").fetchone())

    def known(self) -> dict[str, Known]:
        """Every stored picture by its path."""
        rows = self._db.execute("SELECT path, id, size, mtime_ns, code IS NOT NULL, error FROM pictures")
        return {self._decode(path): Known(*rest) for path, *rest in rows}

    def codes(self, n_bytes: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """All ids, ascending, with their codes `(n, n_bytes)`, many at a time."""
        rows = self._db.execute("SELECT id, code FROM pictures WHERE code IS NOT NULL ORDER BY id")
        while batch := rows.fetchmany(_LOAD_ROWS):
            for number, code in batch:
                if type(code) is not bytes or len(code) != n_bytes:
                    raise self.damaged(f"the code of picture {number} must be {n_bytes} bytes, got {code!r:.80}")
            ids = np.array([number for number, _ in batch], np.int64)
            yield ids, np.frombuffer(b"".join(code for _, code in batch), np.uint8).reshape(-1, n_bytes)

    def path_of(self, number: int) -> str:
        """The path of a stored picture."""
        row = self._db.execute("SELECT path FROM pictures WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise self.damaged(f"picture {number} has no row")
        return self._decode(row[0])

    def id_of(self, path: str) -> int | None:
        """The id of a path, or None."""
        row = self._db.execute("SELECT id FROM pictures WHERE path = ?", (os.fsencode(path),)).fetchone()
        return None if row is None else cast(int, row[0])

    def put(self, records: Iterable[Record]) -> None:
        """Store pictures; a known path keeps its id."""
        self._db.executemany(_UPSERT, ((os.fsencode(r.path), *r[1:]) for r in records))

    def remove(self, ids: Iterable[int]) -> None:
        """Drop pictures."""
        self._db.executemany("DELETE FROM pictures WHERE id = ?", ((number,) for number in ids))

    def forget_codes(self) -> None:
        """Keep the paths and their ids, but let every picture wait to be encoded."""
        self._db.execute("UPDATE pictures SET code = NULL, error = NULL")

    def damaged(self, what: str) -> GalleryError:
        """The error to raise when the file holds what no gallery holds."""
        return _damaged(self.path, what)

    def _decode(self, path: object) -> str:
        if type(path) is not bytes or b".." in path.split(b"/"):
            raise self.damaged(f"a path must be bytes that stay in the folder, got {path!r:.80}")
        return os.fsdecode(path)


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, or make it; refuse what is not a gallery."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GalleryError(
            f"cannot make the folder {path.parent}: {error.strerror}. Keep the gallery somewhere else (--gallery FILE)"
        ) from error
    uri = path.absolute().as_uri()
    if path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        # WAL needs files beside the database even to read, unless nobody can be writing.
        alone = not path.with_name(path.name + "-wal").exists()
        uri += "?mode=ro&immutable=1" if alone else "?mode=ro"
    with _explained(path):
        db = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA trusted_schema = OFF")  # the file may come with a folder from someone else
            db.execute("PRAGMA synchronous = FULL")
            if _is_new(db):
                _retry_while_locked(lambda: db.execute("PRAGMA journal_mode = WAL"))
                db.execute("BEGIN IMMEDIATE")
                if _is_new(db):  # no other process made it meanwhile
                    for statement in _TABLES:
                        db.execute(statement)
                    db.executemany("INSERT INTO meta VALUES (?, ?)", [("schema", str(_SCHEMA)), ("revision", "0")])
                    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                db.execute("COMMIT")
            if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise GalleryError(f"{path} is an SQLite file, but not a pyhash gallery; it was left as it is")
            schema = dict(db.execute("SELECT key, value FROM meta")).get("schema")
            if schema != str(_SCHEMA):
                raise GalleryError(f"{path} has gallery format {schema}, but this pyhash reads format {_SCHEMA}")
        except BaseException:
            db.close()
            raise
    return db


def _is_new(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])


def _retry_while_locked(action: Callable[[], object]) -> None:
    """SQLite does not wait by itself when several connections turn on WAL at once."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ones that say what to do."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite's message quotes what it could not understand
        raise _damaged(path, "its table of contents cannot be read") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            text = f"the gallery {path} is locked by another process for {_BUSY_SECONDS:.0f} s; try again later"
        elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            text = f"cannot write the gallery {path} ({error}). Keep it somewhere else (--gallery FILE)"
        elif code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            text = f"writing or reading the gallery {path} failed: {error}"
        elif code == sqlite3.SQLITE_NOTADB:
            text = f"{path} is not a pyhash gallery: {error}; it was left as it is"
        elif isinstance(error, sqlite3.ProgrammingError):
            closed = "closed" in str(error)  # SQLite has no code for it
            text = f"the gallery {path} {'is closed' if closed else f'cannot be used: {error}'}"
        else:
            raise _damaged(path, str(error)) from error
        raise GalleryError(text) from error


def _damaged(path: Path, what: str) -> GalleryError:
    return GalleryError(f"the gallery {path} is damaged ({what}); move it away and index the folder again")
