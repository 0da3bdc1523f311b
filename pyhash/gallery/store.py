"""The SQLite file of a gallery: images with their codes, and whose codes they are."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import numpy as np

from .. import __version__
from ..errors import GalleryError, GalleryMismatchError
from ..support import held, locked, release
from .kinship import Kinship, kinship
from .opening import CHECKSUM_BITS, checksum, damaged, explained, explanation, open_file
from .records import Counts, Difference, Embedding, Identity, Known, Record, Rows, Wishes
from .vectors import VectorTables

# Whether threads may ask one connection at once: SQLite was built for it, and the GIL guards Python's part of it.
_SHARED = sqlite3.threadsafety == 3 and getattr(sys, "_is_gil_enabled", lambda: True)()
_LOAD_ROWS = 4096
_LOGGED_REVISIONS = 1024  # kept in the table of changes
_LOGGED_ROWS = 65536  # of one revision; a larger change is no smaller than the whole


class GalleryFile:
    """One open gallery file, made if it is not there. Everything but `version` and `close` happens inside `reading`
    or `writing`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db, self._watch = open_file(path)
        self.vectors = VectorTables(self._db, path)
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
    def writing(self, writer: Identity | None, *, rebuild: bool = False, proved: bool = False) -> Iterator[None]:
        """Change the file, all or nothing.

        The writer, where an encoder is one, is refused when the codes are of another encoder, unless it is `proved`
        that it makes the same, or it is there to `rebuild` the file: then all codes are forgotten first, while images
        keep their ids.
        """
        with self._transaction("BEGIN IMMEDIATE"):
            self._set("revision", self.revision() + 1)
            if rebuild:
                self._forget_codes()
            elif writer is not None and not proved:
                self.refuse_other(writer)  # another process may have rebuilt the file meanwhile
            if writer is not None:
                self._describe(writer)
            self._db.execute("DELETE FROM changes WHERE revision <= ?", (self.revision() - _LOGGED_REVISIONS,))
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
        opened = self._setting("opened")
        return Identity(
            name,
            fingerprint,
            levels,
            None if opened is None else self._json(opened, "opened"),
            decoder,
            self._setting("encoder_head") or "",
            by_labels=bool(self._setting("by_labels")),
        )

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

    # What there is

    def counts(self) -> Counts:
        """Count the images."""
        images, failed = self._db.execute("SELECT count(*), count(error) FROM images").fetchone()
        (coded,) = self._db.execute("SELECT count(*) FROM codes WHERE head = ?", (self._setting("head"),)).fetchone()
        return Counts(coded, failed, images - coded - failed)

    def known(self) -> dict[str, Known]:
        """Every stored image by its path."""
        found = self._db.execute(
            "SELECT images.path, images.id, size, mtime_ns, error, codes.row IS NOT NULL, embeddings.row IS NOT NULL, "
            "reader, ctime_ns, inode, digest FROM images LEFT JOIN rows ON rows.image = images.id AND part = 'whole' "
            "LEFT JOIN codes ON codes.row = rows.id AND head = ? LEFT JOIN embeddings ON embeddings.row = rows.id",
            (self._setting("head"),),
        )
        return {os.fsdecode(self._inside(path)): Known(*rest) for path, *rest in found}

    def rows(self, n_bytes: int) -> Iterator[Rows]:
        """All rows with a code of `n_bytes`, many at a time."""
        found = self._db.execute(
            "SELECT codes.row, code, codes.checksum, images.id, path, images.checksum FROM codes "
            "LEFT JOIN rows ON rows.id = codes.row LEFT JOIN images ON images.id = rows.image "
            "WHERE head = ? ORDER BY codes.row",
            (self._setting("head"),),
        )
        while batch := found.fetchmany(_LOAD_ROWS):
            yield self._checked(batch, n_bytes)

    def difference(self, since: int, n_bytes: int) -> Difference | None:
        """What became of the rows since a revision; None where the file does not tell."""
        revision = self.revision()
        if not max(self._setting("changes_from"), revision - _LOGGED_REVISIONS) <= since <= revision:
            return None
        found = self._db.execute(
            "SELECT changed.row, code, codes.checksum, images.id, path, images.checksum "
            "FROM (SELECT DISTINCT row FROM changes WHERE revision > ?) AS changed "
            "LEFT JOIN codes ON codes.row = changed.row AND head = ? "
            "LEFT JOIN rows ON rows.id = codes.row LEFT JOIN images ON images.id = rows.image ORDER BY changed.row",
            (since, self._setting("head")),
        ).fetchall()
        gone = np.array([row[0] for row in found if row[1] is None], np.int64)
        return Difference(self._checked([row for row in found if row[1] is not None], n_bytes), gone)

    def _checked(self, batch: Sequence[tuple[Any, ...]], n_bytes: int) -> Rows:
        """What was read, once its types, lengths and checksums are right: all at once, as there may be millions."""
        ids, codes, sums, images, paths, sums_of_paths = map(list, zip(*batch, strict=True)) if batch else ([],) * 6
        if not ({*map(type, ids)} <= {int} and {*map(type, codes)} <= {bytes} and {*map(len, codes)} <= {n_bytes}):
            number, code = next(
                (n, c) for n, c, *_ in batch if type(n) is not int or type(c) is not bytes or len(c) != n_bytes
            )
            raise self.damaged(f"the code of row {number} must be {n_bytes} bytes, got {code!r:.80}")
        if not {*map(type, paths)} <= {bytes} or b".." in b"/".join(paths):
            for path in paths:
                self._inside(path)
        for what, numbers, values, stored in (("code", ids, codes, sums), ("path", images, paths, sums_of_paths)):
            if [*map(crc32, values, (np.array(numbers, np.int64) & CHECKSUM_BITS).tolist())] != stored:
                wrong = next(n for n, v, s in zip(numbers, values, stored, strict=True) if checksum(n, v) != s)
                raise self.damaged(f"the {what} of {wrong} does not match its checksum")
        return Rows(np.array(ids, np.int64), np.frombuffer(b"".join(codes), np.uint8).reshape(-1, n_bytes), paths)

    def ids_of(self, paths: Iterable[str]) -> list[int | None]:
        """The ids of paths inside the folder, by whichever name; None where there is no such image."""
        return [self._id_of(os.fsencode(path)) for path in paths]

    def _id_of(self, path: bytes) -> int | None:
        image = self._image(path)
        if image is not None:
            return image[0]
        named = self._db.execute("SELECT image FROM names WHERE folder = 1 AND path = ?", (path,)).fetchone()
        return None if named is None else cast(int, named[0])

    def content(self, image: int) -> Record:
        """What is stored of an image, to be stored of another of the same content."""
        path, size, mtime_ns, ctime_ns, inode, error, digest, reader = self._db.execute(
            "SELECT path, size, mtime_ns, ctime_ns, inode, error, digest, reader FROM images WHERE id = ?", (image,)
        ).fetchone()
        code = self._db.execute(
            "SELECT code FROM codes JOIN rows ON rows.id = codes.row AND part = 'whole' WHERE image = ? AND head = ?",
            (image, self._setting("head")),
        ).fetchone()
        embedding = self._db.execute(
            "SELECT vector, norm FROM embeddings JOIN rows ON rows.id = embeddings.row AND part = 'whole' "
            "WHERE image = ?",
            (image,),
        ).fetchone()
        look = self._db.execute("SELECT blocks, grey FROM looks WHERE image = ?", (image,)).fetchone()
        thumbnail = self._db.execute("SELECT thumbnail FROM thumbnails WHERE image = ?", (image,)).fetchone()
        return Record(
            os.fsdecode(path),
            size,
            mtime_ns,
            None if code is None else code[0],
            error,
            None if embedding is None else Embedding(*embedding),
            digest,
            reader,
            look,
            None if thumbnail is None else thumbnail[0],
            ctime_ns,
            inode,
        )

    def _image(self, path: bytes) -> tuple[int, int] | None:
        """The ids of an image and of its whole's row."""
        row = self._db.execute(
            "SELECT images.id, rows.id FROM images JOIN rows ON rows.image = images.id AND part = 'whole' "
            "WHERE folder = 1 AND path = ?",
            (path,),
        ).fetchone()
        return cast("tuple[int, int] | None", row)

    # Changes

    def put(self, records: Iterable[Record]) -> None:
        """Store images; a known path keeps its id."""
        head = self._setting("head")
        touched = []
        for record in records:
            path = os.fsencode(record.path)
            # Not ON CONFLICT: it would use up an id each time, and rows would no longer have those of their images.
            known = self._image(path)
            image, row = self._insert(path) if known is None else known
            self._db.execute(
                "UPDATE images SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, error = ?, digest = ?, reader = ? "
                "WHERE id = ?",
                (*record[1:3], record.ctime_ns, record.inode, record.error, record.digest, record.reader, image),
            )
            self.vectors.forget_row(row)
            if record.code is not None:
                values = (row, head, record.code, checksum(row, record.code))
                self._db.execute("INSERT INTO codes VALUES (?, ?, ?, ?)", values)
            if record.embedding is not None:
                self.vectors.put_embedding(row, head, record.embedding)
            self._put_views(image, record)
            touched.append(row)
        self.note(touched)

    def wait(self, paths: Iterable[str]) -> None:
        """Note images that wait to be encoded; those that are known stay as they are."""
        for path in map(os.fsencode, paths):
            if self._image(path) is None:
                self._insert(path)

    def touch(self, image: int, size: int, mtime_ns: int, ctime_ns: int | None, inode: int | None) -> None:
        """Note how the file of an image can be told, whose content is the same."""
        self._db.execute(
            "UPDATE images SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ? WHERE id = ?",
            (size, mtime_ns, ctime_ns, inode, image),
        )

    def rename(self, image: int, path: str) -> None:
        """Note where an image lies now."""
        now = os.fsencode(path)
        self._db.execute("UPDATE images SET path = ?, checksum = ? WHERE id = ?", (now, checksum(image, now), image))
        self.note([row for (row,) in self._db.execute("SELECT id FROM rows WHERE image = ?", (image,)).fetchall()])

    def name(self, others: Mapping[str, str]) -> None:
        """Note the other names of images: the path of each to the path that the image is kept under."""
        self._db.execute("DELETE FROM names")
        for other, path in others.items():
            image = self._image(os.fsencode(path))
            if image is not None:
                self._db.execute("INSERT INTO names VALUES (1, ?, ?)", (os.fsencode(other), image[0]))

    def place(self) -> tuple[bytes | None, str | None]:
        """The path and the device of the gallery's folder, where they were noted."""
        path, device = self._db.execute("SELECT path, device FROM folders WHERE id = 1").fetchone()
        return path, device

    def note_place(self, path: bytes, device: str | None) -> None:
        """Note which folder the gallery is of."""
        self._db.execute("UPDATE folders SET path = ?, device = ? WHERE id = 1", (path, device))

    def mounts(self) -> list[str]:
        """Subfolders, each ending in a slash, on which other disks were mounted."""
        text = self._setting("mounts")
        return [] if text is None else [os.fsdecode(path.encode("latin-1")) for path in json.loads(text)]

    def note_mounts(self, mounts: Iterable[str]) -> None:
        """Note on which subfolders other disks are mounted."""
        self._set("mounts", json.dumps([os.fsencode(path).decode("latin-1") for path in mounts]))

    def _put_views(self, image: int, record: Record) -> None:
        for table in ("looks", "thumbnails"):
            self._db.execute(f"DELETE FROM {table} WHERE image = ?", (image,))
        if record.look is not None:
            look = (image, *record.look, checksum(image, *record.look))
            self._db.execute("INSERT INTO looks VALUES (?, ?, ?, ?)", look)
        if record.thumbnail is not None:
            values = (image, record.thumbnail, checksum(image, record.thumbnail))
            self._db.execute("INSERT INTO thumbnails VALUES (?, ?, ?)", values)

    def _insert(self, path: bytes) -> tuple[int, int]:
        insert = "INSERT INTO images (folder, path, size, mtime_ns, checksum) VALUES (1, ?, 0, 0, 0)"
        image = self._db.execute(insert, (path,)).lastrowid
        row = self._db.execute("INSERT INTO rows (image) VALUES (?)", (image,)).lastrowid
        assert image is not None
        assert row is not None
        self._db.execute("UPDATE images SET checksum = ? WHERE id = ?", (checksum(image, path), image))
        return image, row

    def remove(self, images: Iterable[int]) -> None:
        """Drop images."""
        touched = []
        for image in images:
            touched += self._db.execute("SELECT id FROM rows WHERE image = ?", (image,)).fetchall()
            self._db.execute("DELETE FROM images WHERE id = ?", (image,))
        self.note([row for (row,) in touched])

    def note(self, rows: Sequence[int]) -> None:
        """Have others load these rows again; what was made of the whole collection may have to be made anew."""
        revision = self.revision()
        if rows:
            self._set("settled", 0)
        if len(rows) > _LOGGED_ROWS:
            self._set("changes_from", revision)
        else:
            values = ((revision, row) for row in rows)
            self._db.executemany("INSERT OR IGNORE INTO changes VALUES (?, ?)", values)

    def _forget_codes(self) -> None:
        for table in ("codes", "embeddings", "neighbours", "heads", "networks", "changes"):
            self._db.execute(f"DELETE FROM {table}")
        self._db.execute("DELETE FROM settings WHERE key = 'head'")
        self._db.execute("UPDATE images SET error = NULL")
        self._set("changes_from", self.revision())

    def damaged(self, what: str) -> GalleryError:
        """The error to raise when the file holds what no gallery holds."""
        return damaged(self.path, what)

    def _inside(self, path: object) -> bytes:
        if type(path) is not bytes or b".." in path.split(b"/"):
            raise self.damaged(f"a path must be bytes that stay in the folder, got {path!r:.80}")
        return path
