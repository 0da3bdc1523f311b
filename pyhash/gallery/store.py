"""The SQLite file of a gallery: images with their codes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from zlib import crc32

import numpy as np

from ..errors import GalleryError
from ..images import Walk
from .checking import Spot
from .database import Database
from .folders import KEY, Place, is_key, key_of, split
from .opening import CHECKSUM_BITS, checksum
from .records import Counts, Difference, Embedding, Identity, Known, PartRecord, Record, Rows
from .salvage import drop_damaged
from .seal import is_broken, seal

_LOAD_ROWS = 4096
_LOGGED_REVISIONS = 1024  # kept in the table of changes
_LOGGED_ROWS = 65536  # of one revision; a larger change is no smaller than the whole


class GalleryFile(Database):
    """One open gallery file, made if it is not there. Everything but `version`, `close` and what is done about damage
    happens inside `reading` or `writing`.
    """

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
            seal(self._db)

    def without_forgotten(self, found: Walk, folder: str, number: int) -> Walk:
        """Return what a walk of a folder found, without what the user has forgotten there."""
        with self.reading():
            return self.forgotten.left_of(found, folder, number)

    # What there is

    def counts(self) -> Counts:
        """Count the images."""
        images, failed = self._db.execute("SELECT count(*), count(error) FROM images").fetchone()
        head = self._setting("head")
        (rows,) = self._db.execute("SELECT count(*) FROM codes WHERE head = ?", (head,)).fetchone()
        # Of the rows that are parts, which the index of rows by images tells, as there may be none of them.
        (parts,) = self._db.execute(
            "SELECT count(*) FROM rows CROSS JOIN codes ON codes.row = rows.id AND head = ? WHERE rows.id <> image",
            (head,),
        ).fetchone()
        coded = rows - parts
        return Counts(coded, failed, images - coded - failed, rows)

    def known(self) -> dict[str, Known]:
        """Every stored image by its key."""
        found = self._db.execute(
            f"SELECT {KEY}, images.id, size, mtime_ns, error, codes.row IS NOT NULL, embeddings.row IS NOT NULL, "
            "reader, ctime_ns, inode, digest FROM images LEFT JOIN codes ON codes.row = images.id AND head = ? "
            "LEFT JOIN embeddings ON embeddings.row = images.id",
            (self._setting("head"),),
        )
        return {os.fsdecode(self._inside(path)): Known(*rest) for path, *rest in found}

    def some_sizes(self, n: int, folder: int) -> dict[str, int]:
        """The sizes of the files of `n` images of a folder that can be searched, by path inside it."""
        found = self._db.execute(
            "SELECT path, size FROM codes JOIN images ON images.id = codes.row WHERE head = ? AND folder = ? LIMIT ?",
            (self._setting("head"), folder, n),
        )
        return {os.fsdecode(self._inside(path)): size for path, size in found}

    def rows(self, n_bytes: int) -> Iterator[Rows]:
        """All rows with a code of `n_bytes`, many at a time."""
        found = self._db.execute(
            f"SELECT codes.row, code, codes.checksum, {KEY}, images.checksum FROM codes "
            "LEFT JOIN images ON images.id = codes.row WHERE head = ? ORDER BY codes.row",
            (self._setting("head"),),
        )
        while batch := found.fetchmany(_LOAD_ROWS):
            yield self._checked(batch, n_bytes)

    def difference(self, since: int, n_bytes: int) -> Difference | None:
        """What became of the rows since a revision; None where the file does not tell."""
        if not self._is_told(since):
            return None
        found = self._db.execute(
            f"SELECT changed.row, code, codes.checksum, {KEY}, images.checksum "
            "FROM (SELECT DISTINCT row FROM changes WHERE revision > ?) AS changed "
            "LEFT JOIN codes ON codes.row = changed.row AND head = ? "
            "LEFT JOIN images ON images.id = codes.row ORDER BY changed.row",
            (since, self._setting("head")),
        ).fetchall()
        gone = np.array([row[0] for row in found if row[1] is None], np.int64)
        return Difference(self._checked([row for row in found if row[1] is not None], n_bytes), gone)

    def changed_since(self, since: int) -> int | None:
        """How many rows came, changed or went since a revision; None where the file does not tell."""
        if not self._is_told(since):
            return None
        found = self._db.execute("SELECT count(DISTINCT row) FROM changes WHERE revision > ?", (since,)).fetchone()
        return int(found[0])

    def has_codes(self, n: int) -> bool:
        """Whether so many rows can be searched."""
        query = "SELECT count(*) FROM (SELECT 1 FROM codes WHERE head = ? LIMIT ?)"
        return bool(self._db.execute(query, (self._setting("head"), n)).fetchone()[0] >= n)

    def _checked(self, batch: Sequence[tuple[Any, ...]], n_bytes: int) -> Rows:
        """What was read, once its types, lengths and checksums are right: all at once, as there may be millions."""
        ids, codes, sums, _, _ = map(list, zip(*batch, strict=True)) if batch else ([],) * 5
        known = [(n, path, stored) for n, _, _, path, stored in batch if path is not None]  # others are parts
        images, paths, sums_of_paths = map(list, zip(*known, strict=True)) if known else ([],) * 3
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
        rows = np.frombuffer(b"".join(codes), np.uint8).reshape(-1, n_bytes)
        return Rows(np.array(ids, np.int64), rows, np.array(images, np.int64), paths)

    def ids_of(self, keys: Iterable[str]) -> list[int | None]:
        """The ids of images by the key of whichever of their names; None where there is no such image."""
        return [*map(self._id_of, keys)]

    def _id_of(self, key: str) -> int | None:
        image = self._image(key)
        if image is not None:
            return image
        named = self._db.execute("SELECT image FROM names WHERE folder = ? AND path = ?", _stored(key)).fetchone()
        return None if named is None else cast(int, named[0])

    def content(self, image: int) -> Record:
        """What is stored of an image, to be stored of another of the same content."""
        path, size, mtime_ns, ctime_ns, inode, error, digest, reader = self._db.execute(
            f"SELECT {KEY}, size, mtime_ns, ctime_ns, inode, error, digest, reader FROM images WHERE id = ?", (image,)
        ).fetchone()
        code, embedding = self._made_of(image)
        parts = [PartRecord(group, part, *self._made_of(row)) for row, group, part in self.parts.of_image(image)]
        look = self._db.execute("SELECT blocks, grey FROM looks WHERE image = ?", (image,)).fetchone()
        thumbnail = self._db.execute("SELECT thumbnail FROM thumbnails WHERE image = ?", (image,)).fetchone()
        return Record(
            os.fsdecode(path),
            size,
            mtime_ns,
            code,
            error,
            embedding,
            digest,
            reader,
            look,
            None if thumbnail is None else thumbnail[0],
            ctime_ns,
            inode,
            parts,
        )

    def _made_of(self, row: int) -> tuple[bytes | None, Embedding | None]:
        """The code and the embedding of a row."""
        code = self._db.execute(
            "SELECT code FROM codes WHERE row = ? AND head = ?", (row, self._setting("head"))
        ).fetchone()
        embedding = self._db.execute("SELECT vector, norm FROM embeddings WHERE row = ?", (row,)).fetchone()
        return None if code is None else code[0], None if embedding is None else Embedding(*embedding)

    def _image(self, key: str) -> int | None:
        """The id of an image, which is that of its whole's row, too."""
        row = self._db.execute("SELECT id FROM images WHERE folder = ? AND path = ?", _stored(key)).fetchone()
        return None if row is None else cast(int, row[0])

    def has_since(self, revision: int, record: Record) -> bool:
        """Whether what a record says of an image was stored since a revision."""
        row = self._db.execute(
            "SELECT (SELECT count(*) FROM rows WHERE image = images.id AND part <> 'whole'), "
            "EXISTS (SELECT 1 FROM codes WHERE row = images.id AND head = ?), "
            "EXISTS (SELECT 1 FROM embeddings WHERE row = images.id) FROM images "
            "WHERE folder = ? AND path = ? AND size = ? AND mtime_ns = ? AND digest IS ? AND error IS ? "
            "AND reader IS ? AND EXISTS (SELECT 1 FROM changes WHERE revision > ? AND row = images.id)",
            (
                self._setting("head"),
                *_stored(record.path),
                record.size,
                record.mtime_ns,
                record.digest,
                record.error,
                record.reader,
                revision,
            ),
        ).fetchone()
        return bool(row == (len(record.parts), record.code is not None, record.embedding is not None))

    def failed(self) -> list[tuple[str, str]]:
        """The keys of the images that could not be read, and why."""
        found = self._db.execute(f"SELECT {KEY}, error FROM images WHERE error IS NOT NULL ORDER BY images.id")
        return [(os.fsdecode(self._inside(key)), error) for key, error in found]

    def thumbnail(self, image: int) -> bytes | None:
        """The small JPEG that is kept of an image."""
        row = self._db.execute("SELECT thumbnail, checksum FROM thumbnails WHERE image = ?", (image,)).fetchone()
        if row is None:
            return None
        thumbnail, stored = row
        if type(thumbnail) is not bytes or checksum(image, thumbnail) != stored:
            raise self.damaged(f"the thumbnail of image {image} does not match its checksum")
        return thumbnail

    # Changes

    def forget_thumbnails(self) -> None:
        """Drop the small JPEGs that are kept."""
        self._db.execute("DELETE FROM thumbnails")

    def put(self, records: Iterable[Record]) -> None:
        """Store images; a known path keeps its id."""
        head = self._setting("head")
        touched = []
        for record in records:
            if self.forgotten.holds(record.path):
                continue  # since the folder was walked
            known = self._image(record.path)
            image = self._insert(record.path) if known is None else known
            self._db.execute(
                "UPDATE images SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, error = ?, digest = ?, reader = ? "
                "WHERE id = ?",
                (*record[1:3], record.ctime_ns, record.inode, record.error, record.digest, record.reader, image),
            )
            self._put_row(image, head, record.code, record.embedding)
            touched.append(image)
            if record.error is None:
                touched += self.parts.drop(image)
                rows = self.parts.put(image, record.parts)
                for row, part in zip(rows, record.parts, strict=True):
                    self._put_row(row, head, part.code, part.embedding)
                touched += rows
            else:  # which parts it has stays known, until it can be read again
                for row, _, _ in self.parts.of_image(image):
                    self.vectors.forget_row(row)
                    touched.append(row)
            self._put_views(image, record)
        self.note(touched)

    def _put_row(self, row: int, head: int, code: bytes | None, embedding: Embedding | None) -> None:
        """Store what was made of an image or a part in place of what there is."""
        self.vectors.forget_row(row)
        if code is not None:
            self._db.execute("INSERT INTO codes VALUES (?, ?, ?, ?)", (row, head, code, checksum(row, code)))
        if embedding is not None:
            self.vectors.put_embedding(row, head, embedding)

    def wait(self, keys: Iterable[str]) -> None:
        """Note images that wait to be encoded; those that are known stay as they are."""
        for key in keys:
            if self._image(key) is None and not self.forgotten.holds(key):
                self._insert(key)

    def lacking(self) -> int:
        """How many images lack parts that are wished."""
        return int(self._setting("lacking") or 0)

    def note_lacking(self, count: int) -> None:
        """Note how many images lack parts that are wished."""
        self._set("lacking", count)

    def touch(self, image: int, size: int, mtime_ns: int, ctime_ns: int | None, inode: int | None) -> None:
        """Note how the file of an image can be told, whose content is the same."""
        self._db.execute(
            "UPDATE images SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ? WHERE id = ?",
            (size, mtime_ns, ctime_ns, inode, image),
        )

    def rename(self, image: int, key: str) -> None:
        """Note where an image lies now."""
        update = "UPDATE images SET folder = ?, path = ?, checksum = ? WHERE id = ?"
        self._db.execute(update, (*_stored(key), checksum(image, os.fsencode(key)), image))
        self.note([image])

    def name(self, others: Mapping[str, str], folders: Iterable[int]) -> None:
        """Note the other names of images in some folders, all of them: the key of each to that of the image."""
        self._db.executemany("DELETE FROM names WHERE folder = ?", [(folder,) for folder in folders])
        for other, key in others.items():
            image = self._image(key)
            if image is not None:
                self._db.execute("INSERT INTO names VALUES (?, ?, ?)", (*_stored(other), image))

    def keep_elsewhere(self, image: int, folders: Iterable[int]) -> bool:
        """Keep an image by a name outside of some folders, where it has one."""
        names = [key for key in self.names_of(image)[1:] if split(key)[0] not in folders]
        for key in names[:1]:
            self._db.execute("DELETE FROM names WHERE folder = ? AND path = ?", _stored(key))
            self.rename(image, key)
        return bool(names)

    # Its folders

    def folders(self) -> dict[int, Place]:
        """The folders of the gallery by number, with what was noted of each."""
        found = self._db.execute("SELECT id, path, device FROM folders ORDER BY id").fetchall()
        if not all(path is None or type(path) is bytes for _, path, _ in found):
            raise self.damaged("the path of a folder must be bytes")
        return {number: Place(path, device) for number, path, device in found}

    def images_of(self, folder: int) -> int:
        """How many images of a folder can be searched."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM codes JOIN images ON images.id = codes.row WHERE head = ? AND folder = ?",
            (self._setting("head"), folder),
        ).fetchone()
        return int(count)

    def note_place(self, folder: int, place: Place) -> None:
        """Note where a folder is."""
        self._db.execute("UPDATE folders SET path = ?, device = ? WHERE id = ?", (*place, folder))

    def add_folder(self, place: Place) -> int:
        """Add a folder; return its number, which was no other's before."""
        last = max(self._setting("folders") or 0, *self.folders())
        self._db.execute("INSERT INTO folders (id, path, device) VALUES (?, ?, ?)", (last + 1, *place))
        self._set("folders", last + 1)
        return last + 1

    def remove_folder(self, folder: int) -> int:
        """Take a folder out, with the images that have no name in another one; return how many."""
        self._set("folders", max(self._setting("folders") or 0, *self.folders()))
        there = self._db.execute("SELECT id FROM images WHERE folder = ?", (folder,)).fetchall()
        gone = [image for (image,) in there if not self.keep_elsewhere(image, [folder])]
        self.remove(gone)
        self.forgotten.drop([key_of(folder, "")])
        self.note_mounts(mount for mount in self.mounts() if split(mount)[0] != folder)
        self._db.execute("DELETE FROM folders WHERE id = ?", (folder,))
        return len(gone)

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

    def _insert(self, key: str) -> int:
        """Note an image that is new; return its id, which no image and no row ever had, and that of its whole's row."""
        number: int
        (number,) = self._db.execute(
            "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name IN ('images', 'rows')"
        ).fetchone()
        insert = "INSERT INTO images (id, folder, path, size, mtime_ns, checksum) VALUES (?, ?, ?, 0, 0, ?)"
        self._db.execute(insert, (number, *_stored(key), checksum(number, os.fsencode(key))))
        self._db.execute("INSERT INTO rows (id, image) VALUES (?, ?)", (number, number))
        return number

    def under(self, folder: str) -> list[int]:
        """The ids of the images with a name under a folder, by its key."""
        number, path = _stored(folder)
        found = self._db.execute(
            "SELECT id FROM images WHERE folder = ?1 AND substr(path, 1, ?2) = ?3 "
            "UNION SELECT image FROM names WHERE folder = ?1 AND substr(path, 1, ?2) = ?3",
            (number, len(path), path),
        )
        return [image for (image,) in found]

    def names_of(self, image: int) -> list[str]:
        """All keys of an image, that by which it is kept first."""
        found = self._db.execute("SELECT folder, path FROM images WHERE id = ?", (image,)).fetchall()
        found += self._db.execute("SELECT folder, path FROM names WHERE image = ?", (image,)).fetchall()
        return [key_of(folder, os.fsdecode(self._inside(path))) for folder, path in found]

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

    def mend(self, spots: Iterable[Spot]) -> None:
        """Drop what is damaged, so that it is made again."""
        listed = list(spots)
        self.note(drop_damaged(self._db, listed))
        if any(spot.table == "forgotten" for spot in listed):
            self.forgotten.accept()
        if listed:
            self._set("changes_from", self.revision())  # what others have loaded may be damaged, too

    def _is_told(self, since: int) -> bool:
        """Whether what became of the rows since a revision is noted."""
        revision = self.revision()
        return bool(max(self._setting("changes_from"), revision - _LOGGED_REVISIONS) <= since <= revision)

    def forget_embeddings(self) -> bool:
        """Drop embeddings and neighbours; codes stay. Return whether there were any."""
        if not self.vectors.any():
            return False
        self.vectors.forget_vectors()
        self._set("changes_from", self.revision())
        return True

    # Mapped files

    def mapped(self) -> str | None:
        """What is noted of the mapped files that were made of the rows."""
        return cast("str | None", self._setting("mapped"))

    def note_mapped(self, text: str | None, *, made_of: int = 0, seconds: float | None = None) -> str | None:
        """Note mapped files in place of others, in a transaction of its own: the rows are as they were. Return what was
        noted before.

        None notes that there are none, and that those made of rows before now are not wanted. Others have to be made of
        a revision of which it is told what came since, else they are refused with a GalleryError, also where other
        processes write for longer than so many `seconds`.
        """
        (waits,) = self._db.execute("PRAGMA busy_timeout").fetchone()
        if seconds is not None:
            self._db.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
        try:
            with self._transaction("BEGIN IMMEDIATE"):
                if is_broken(self._db):
                    raise self.damaged("the settings, or what is noted of the encoder")
                before = self.mapped()
                if text is None:
                    self._set("mapped_from", self.revision())
                elif not (self._is_told(made_of) and made_of >= (self._setting("mapped_from") or 0)):
                    raise GalleryError("they are of rows that are no longer wanted")
                self._set("mapped", text)
                seal(self._db)
                return before
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {waits}")

    def _inside(self, path: object) -> bytes:
        if type(path) is not bytes or b".." in path.split(b"/") or not is_key(path):
            raise self.damaged(f"a path must be bytes that stay in the folder, got {path!r:.80}")
        return path


def _stored(key: str) -> tuple[int, bytes]:
    """The folder and the path of a key, as they are stored."""
    folder, path = split(key)
    return folder, os.fsencode(path)
