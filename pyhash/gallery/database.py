"""The database of a gallery's file: its connections and transactions, what is noted of the encoder, and wishes."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from .. import __version__
from ..errors import GalleryError, GalleryMismatchError
from ..support import held, locked, release
from .forgotten import Forgotten
from .kinship import Kinship, kinship
from .looks import Looks
from .opening import damaged, explained, explanation, open_file
from .part_tables import PartTables
from .records import Identity, Wishes
from .salvage import reset_settings, salvage_into
from .seal import is_broken, seal
from .vectors import VectorTables
from .verdicts import Verdicts

# Whether threads may ask one connection at once: SQLite was built for it, and the GIL guards Python's part of it.
_SHARED = sqlite3.threadsafety == 3 and getattr(sys, "_is_gil_enabled", lambda: True)()


class Database:
    """A gallery's file without its images. `GalleryFile` is one with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db, self._watch = open_file(path)
        self.vectors = VectorTables(self._db, path)
        self.parts = PartTables(self._db, path)
        self.forgotten = Forgotten(self._db)
        self.verdicts = Verdicts(self._db)
        self.looks = Looks(self._db, path)
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connections."""

        def close() -> None:
            self._watch.close()
            self._db.close()

        locked(self._lock, close)

    def version(self) -> int:
        """Return a number that differs after every change of the file, by whomever; asked without a lock.

        It holds for this object only: `revision` is what the file says. (The counter that it comes from lies in the
        file's shared memory. To map that is no way to read it: whoever closes such a file drops SQLite's locks on it.)
        """
        return self._version() if _SHARED else locked(self._lock, self._version)

    def _version(self) -> int:
        try:
            ((number,),) = self._watch.execute("PRAGMA data_version").fetchall()
        except sqlite3.Error as error:
            raise explanation(self.path, error) from error
        return cast(int, number)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the file, one thread at a time."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        before = held([self._lock])
        try:
            with self._lock, explained(self.path):
                self._db.execute(begin)
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
        except BaseException:
            release([self._lock], before)
            raise

    # Whose codes

    def _setting(self, key: str) -> Any:
        row = self._db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _set(self, key: str, value: object) -> None:
        self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))

    def _describe(self, writer: Identity) -> None:
        stored = self.identity()
        if stored is None:
            network = self._db.execute(
                "INSERT INTO networks (name, fingerprint, decoder) VALUES (?, ?, ?)",
                (writer.name, writer.fingerprint, writer.decoder),
            ).lastrowid
            levels = json.dumps(writer.levels)
            head = self._db.execute("INSERT INTO heads (network, levels) VALUES (?, ?)", (network, levels)).lastrowid
            self._set("head", head)
        else:
            self._db.execute(
                "UPDATE networks SET name = ?, fingerprint = ?, decoder = ? "
                "WHERE id = (SELECT heads.network FROM heads JOIN settings ON key = 'head' AND value = heads.id)",
                (writer.name, writer.fingerprint, writer.decoder),
            )
            if stored.decoder is None and writer.decoder is not None and stored.fingerprint == writer.whole:
                self._db.execute(
                    "UPDATE images SET reader = ? WHERE error IS NULL", (writer.decoder,)
                )  # it was the same
        self._set("opened", None if writer.opened is None else json.dumps(writer.opened))
        self._set("encoder_head", writer.head)
        self._set("by_labels", int(writer.by_labels))
        self._set("version", __version__)

    def kinship(self, encoder: Identity) -> Kinship:
        """How an encoder is related to the one whose codes these are."""
        stored, head = self.identity(), self.vectors.head()
        if stored is None:
            return Kinship.SAME
        return kinship(stored, encoder, adapted=head is not None and head.matrix is not None)

    def refuse_other(self, encoder: Identity) -> None:
        """Raise GalleryMismatchError when the codes are not this encoder's."""
        stored, kin = self.identity(), self.kinship(encoder)
        if stored is None or kin is Kinship.SAME:
            return
        if kin is Kinship.HEAD:
            raise GalleryMismatchError(
                f"the gallery {self.path} holds codes of another head of the encoder {stored.name!r}; their codes "
                "cannot be compared. Encode its images again (`pyhash index FOLDER`)"
            )
        if kin is Kinship.OTHER and stored.built_in is not None and stored.built_in == encoder.built_in:
            raise GalleryMismatchError(
                f"the gallery {self.path} was made with {stored.name!r}, the built-in encoder of an earlier pyhash; "
                f"today's is {encoder.name!r}, and their codes cannot be compared. Encode its images again "
                "(`pyhash index FOLDER --rebuild`)"
            )
        raise GalleryMismatchError(
            f"the gallery {self.path} holds codes of the encoder {stored.name!r} with fingerprint "
            f"{stored.fingerprint}, but this is the encoder {encoder.name!r} with fingerprint "
            f"{encoder.fingerprint}; their codes cannot be compared. Give the encoder that made the "
            "gallery (--encoder MODEL), or encode every image again (`pyhash index FOLDER --rebuild`)"
        )

    def identity(self) -> Identity | None:
        """Whose codes these are; None before the first image."""
        row = self._db.execute(
            "SELECT networks.name, networks.fingerprint, networks.decoder, heads.levels FROM settings "
            "JOIN heads ON heads.id = settings.value JOIN networks ON networks.id = heads.network "
            "WHERE settings.key = 'head'"
        ).fetchone()
        if row is None:
            return None
        name, fingerprint, decoder, text = row
        levels = self._json(text, "levels")
        if not levels or not all(type(bits) is int and bits > 0 for bits in levels.values()):
            raise self.damaged(f"levels must be a JSON object of whole numbers, got {text!r:.80}")
        return Identity(
            name,
            fingerprint,
            levels,
            self.opened(),
            decoder,
            self._setting("encoder_head") or "",
            by_labels=bool(self._setting("by_labels")),
        )

    def opened(self) -> dict[str, Any] | None:
        """How the encoder was opened, where that is noted."""
        text = self._setting("opened")
        return None if text is None else self._json(text, "opened")

    def wishes(self) -> Wishes:
        """What the user wants the gallery to be."""
        text = self._setting("wishes")
        return Wishes() if text is None else Wishes(**self._json(text, "wishes"))

    def wish(self, wishes: Wishes) -> None:
        """Note what the user wants the gallery to be."""
        self._set("wishes", json.dumps(wishes._asdict()))

    def settled(self) -> bool:
        """Whether rows are as they were when the gallery last adapted to them."""
        return bool(self._setting("settled"))

    def note_settled(self) -> None:
        """Note that the gallery has adapted to its rows."""
        self._set("settled", 1)

    def why_own(self) -> str | None:
        """Why no level is made of neighbourhoods; None where one is, or where no head was fitted."""
        return cast("str | None", self._setting("why_own"))

    def note_why_own(self, why: str | None) -> None:
        """Note why no level is made of neighbourhoods."""
        self._set("why_own", why)

    def _json(self, text: object, name: str) -> dict[str, Any]:
        with contextlib.suppress(TypeError, ValueError):
            value = json.loads(cast(str, text))
            if isinstance(value, dict):
                return value
        raise self.damaged(f"{name} must be a JSON object, got {text!r:.80}")

    def revision(self) -> int:
        """Count of the changes of the file, by all processes."""
        revision = self._setting("revision")
        if type(revision) is not int:
            raise self.damaged(f"revision must be a whole number, got {revision!r:.80}")
        return revision

    def _forget_codes(self) -> None:
        for table in ("codes", "embeddings", "neighbours", "heads", "networks", "changes"):
            self._db.execute(f"DELETE FROM {table}")
        self._db.execute("DELETE FROM settings WHERE key = 'head'")
        self._db.execute("UPDATE images SET error = NULL")
        self._set("changes_from", self.revision())

    def damaged(self, what: str) -> GalleryError:
        """The error to raise when the file holds what no gallery holds."""
        return damaged(self.path, what)

    # When it is damaged, or is to be clean

    def clean(self) -> None:
        """Write the file anew, so that nothing remains in it of what was removed, and empty its write-ahead log.

        GalleryError when others do not let go of an earlier state of the file, or the disk is full.
        """

        def clean() -> None:
            with explained(self.path):
                self._db.execute("VACUUM")
                ((busy, *_),) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if busy:
                raise GalleryError(
                    f"the gallery {self.path} is read by another process, and so traces of what was removed remain in "
                    f"{self.path}-wal; try again later"
                )

        locked(self._lock, clean)

    def is_broken(self) -> bool:
        """Whether the settings, or what is noted of the encoder, are damaged."""
        with self.reading():
            return is_broken(self._db)

    def salvage(self) -> Path:
        """Go on with what can still be read of a damaged file; return where the damaged one is kept."""
        return locked(self._lock, lambda: salvage_into(self._db, self.path))

    def reset(self, writer: Identity) -> None:
        """Go on without the settings, which are damaged, and without all codes."""
        with self._transaction("BEGIN IMMEDIATE"):
            reset_settings(self._db)
            self.forgotten.accept()
            self._forget_codes()
            self._describe(writer)
            seal(self._db)
