"""What came of comparing images, kept in a file: a search that was stopped goes on there, and the next one is short.

The file may be deleted at any time. It knows images by their bytes, so nothing in it is wrong because a file changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from .agreement import Agreement
from .placement import Placement
from .proof import Compared, Proof
from .stock import Stock

__all__ = ["Remembered", "remembering"]

_SECONDS = 5.0  # after which what was found is written
_TABLES = """
CREATE TABLE IF NOT EXISTS about (engine TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS compared (
  pair BLOB PRIMARY KEY, outcome BLOB NOT NULL, checksum INTEGER NOT NULL
) WITHOUT ROWID;
"""


class Remembered:
    """Outcomes of comparing images of a stock, for several threads. What cannot be read or written is as if it were not
    known.
    """

    def __init__(self, db: sqlite3.Connection | None, stock: Stock, options: str) -> None:
        self._db = db
        self._stock = stock
        self._options = options
        self._new: dict[bytes, bytes] = {}
        self._written = time.monotonic()
        self._lock = threading.Lock()

    def known(self, one: int, other: int, turn: int) -> Compared | None:
        """What came of comparing two images, the one turned so; None where that is not known."""
        text = self._value(self._key(one, other, turn))
        return None if text is None else _read(text)

    def note(self, one: int, other: int, turn: int, outcome: Compared) -> None:
        """Keep what came of comparing two images."""
        if outcome.proof is None or self._both_there(one, other):
            self._put(self._key(one, other, turn), _written(outcome))

    def pictures(self, place: int) -> NDArray[np.uint8] | None:
        """The codes of the looks of pictures inside an image; None where that is not known."""
        text = self._value(self._picture_key(place))
        return None if text is None or len(text) % 8 else np.frombuffer(text, np.uint8).reshape(-1, 8)

    def note_pictures(self, place: int, codes: NDArray[np.uint8]) -> None:
        """Keep the codes of the looks of pictures inside an image."""
        self._put(self._picture_key(place), codes.tobytes())

    def close(self) -> None:
        """Write what is new; nothing is known any more."""
        with self._lock:
            self._write()
            self._db = None

    def _value(self, key: bytes | None) -> bytes | None:
        with self._lock:
            if key is None or self._db is None:
                return None
            try:
                found = self._db.execute("SELECT outcome, checksum FROM compared WHERE pair = ?", (key,)).fetchone()
            except sqlite3.Error:
                self._db = None
                return None
        if found is None or type(found[0]) is not bytes or crc32(key + found[0]) != found[1]:
            return None
        return bytes(found[0])

    def _put(self, key: bytes | None, value: bytes) -> None:
        if key is not None:
            with self._lock:
                self._new[key] = value
                if time.monotonic() - self._written > _SECONDS:
                    self._write()

    def _write(self) -> None:
        if self._db is not None:
            rows = [(key, outcome, crc32(key + outcome)) for key, outcome in self._new.items()]
            try:
                with self._db:
                    self._db.executemany("INSERT OR REPLACE INTO compared VALUES (?, ?, ?)", rows)
            except sqlite3.Error:  # a full disk, say
                self._db = None
        self._new = {}
        self._written = time.monotonic()

    def _picture_key(self, place: int) -> bytes | None:
        digest = self._stock.digests[place]
        return None if digest is None else hashlib.blake2b(digest + b"pictures", digest_size=16).digest()

    def _key(self, one: int, other: int, turn: int) -> bytes | None:
        digests = self._stock.digests[one], self._stock.digests[other]
        if digests[0] is None or digests[1] is None:
            return None
        said = f"{turn} {self._options}".encode()
        return hashlib.blake2b(digests[0] + digests[1] + said, digest_size=16).digest()

    def _both_there(self, one: int, other: int) -> bool:
        """Whether a proof was made with the files, not with thumbnails of what is away."""
        return all(os.path.exists(self._stock.path(place)) for place in (one, other))


@contextmanager
def remembering(
    path: str | os.PathLike[str] | None, stock: Stock, *, turned: bool, cropped: bool
) -> Iterator[Remembered]:
    """Keep outcomes in a file in the block; nowhere where none is given, or it cannot be written."""
    db = None if path is None else _opened(Path(path))
    kept = Remembered(db, stock, f"{int(turned)}{int(cropped)}")
    try:
        yield kept
    finally:
        kept.close()
        if db is not None:
            db.close()


def _opened(path: Path) -> sqlite3.Connection | None:
    try:
        return _connected(path)
    except sqlite3.OperationalError:  # it cannot be written, or another search holds it
        return None
    except sqlite3.DatabaseError:
        if not _is_damaged(path):
            return None  # something else
    try:
        path.unlink()
        return _connected(path)
    except (OSError, sqlite3.Error):
        return None


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.executescript(_TABLES)
        with db:
            if [text for (text,) in db.execute("SELECT engine FROM about")] != [_engine()]:
                db.execute("DELETE FROM about")
                db.execute("DELETE FROM compared")
                db.execute("INSERT INTO about VALUES (?)", (_engine(),))
        return db
    except BaseException:
        db.close()
        raise


def _is_damaged(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"
    return False


@cache
def _engine() -> str:
    """What tells this search from others, which may prove in another way: they believe nothing of one another."""
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _written(outcome: Compared) -> bytes:
    proof = outcome.proof
    if proof is None:
        return b"similar" if outcome.similar else b""
    measured = {name: value for name, value in proof.agreement._asdict().items() if name != "where"}
    return json.dumps(proof._asdict() | {"agreement": measured}).encode()


def _read(text: bytes) -> Compared | None:
    if text in (b"", b"similar"):
        return Compared(None, bool(text))
    try:
        proof: dict[str, Any] = json.loads(text)
        measured: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in proof["agreement"].items()
        }
        proof["agreement"] = Agreement(**measured, where=np.zeros((0, 0), np.bool_))
        proof["placement"] = Placement(*proof["placement"])
        return Compared(Proof(**proof), True)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
