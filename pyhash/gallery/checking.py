"""Looking whether a gallery's file is whole: SQLite's own checks, every checksum, and that all belongs together."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from ..codes import Levels
from ..errors import GalleryError
from .folders import KEY, Folders
from .forgotten import Forgotten
from .opening import checksum, open_file
from .part_tables import BOX, NEW_BOX, group_of, is_complete, part_of_row
from .records import NEIGHBOURS
from .schema import TABLES
from .seal import is_broken
from .vectors import packed

_MESSAGES = 100  # of SQLite's own check


class Spot(NamedTuple):
    """Something damaged."""

    table: str
    """Empty: the file as such, which SQLite cannot be trusted to read."""
    key: int | None
    """Of the damaged row there."""
    image: int | None
    what: str


@dataclass
class Found:
    """What an examination found."""

    spots: list[Spot] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    """How many rows of each table were looked at."""
    waiting: int = 0
    paths: dict[int, bytes] = field(default_factory=dict)
    """The keys of images that have damage, where they can be read."""
    traces: bool = False

    @property
    def is_unreadable(self) -> bool:
        """Whether the file as such is damaged."""
        return any(not spot.table for spot in self.spots)


def examine(path: Path) -> Found:
    """Look at all that a gallery's file holds, as it lies on the disk."""
    found = Found()
    try:
        db, watch = open_file(path)
    except GalleryError as error:
        found.spots.append(Spot("", None, None, str(error.__cause__ or error)))
        return found
    with closing(db), closing(watch):
        db.text_factory = lambda text: text.decode(errors="surrogateescape")
        with _noting(found, "it cannot be read"):
            db.execute("BEGIN")
            _look_at_file(db, found)
        if not found.is_unreadable:
            for look in (_look_at_settings, _look_at_images, *map(_rows_of, _ROWS), _look_at_parts):
                with _noting(found, "it cannot be read"):
                    look(db, found)
        with _noting(found, "its images cannot be read"):
            images = {spot.image for spot in found.spots if spot.image is not None}
            for image in images:
                row = db.execute(f"SELECT {KEY} FROM images WHERE id = ?", (image,)).fetchone()
                if row is not None and type(row[0]) is bytes:
                    found.paths[image] = row[0]
    return found


@contextmanager
def _noting(found: Found, what: str) -> Iterator[None]:
    """Note as damage what SQLite refuses to read."""
    try:
        yield
    except (sqlite3.DatabaseError, OverflowError) as error:
        found.spots.append(Spot("", None, None, f"{what}: {error}"))


def _look_at_file(db: sqlite3.Connection, found: Found) -> None:
    messages = [text for (text,) in db.execute(f"PRAGMA integrity_check({_MESSAGES})")]
    if messages != ["ok"]:
        found.spots += [Spot("", None, None, text) for message in messages for text in str(message).splitlines()]
    if contents(db) != expected_contents():
        found.spots.append(Spot("", None, None, "its table of contents is not that of a gallery"))
        return
    broken = Counter((table, parent) for table, _, parent, _ in db.execute("PRAGMA foreign_key_check"))
    found.spots += [
        Spot("", None, None, f"{count} of the {table} belong to no {parent}")
        for (table, parent), count in broken.items()
    ]


def contents(db: sqlite3.Connection) -> set[tuple[object, ...]]:
    """What SQLite's table of contents says."""
    return {*db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'")}


def expected_contents() -> set[tuple[object, ...]]:
    """What it says of a gallery."""
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in TABLES:
            db.execute(statement)
        return contents(db)


def _look_at_settings(db: sqlite3.Connection, found: Found) -> None:
    settings = dict(db.execute("SELECT key, value FROM settings"))
    if is_broken(db) or type(settings.get("revision")) is not int or type(settings.get("changes_from")) is not int:
        found.spots.append(Spot("settings", None, None, "the settings, or what is noted of the encoder"))
    elif not Forgotten(db).is_whole():
        found.spots.append(Spot("forgotten", None, None, "the list of what was forgotten"))
    else:
        found.traces = Forgotten(db).has_traces()
    for number, matrix, stored, levels in db.execute("SELECT id, matrix, checksum, levels FROM heads"):
        if not (_are_levels(levels) or found.spots):
            found.spots.append(Spot("settings", None, None, "the levels of codes"))
        if matrix is not None and (type(matrix) is not bytes or checksum(number, matrix) != stored):
            found.spots.append(Spot("heads", number, None, "the head that was fitted on the images"))


def _are_levels(text: object) -> bool:
    try:
        return bool(Levels(json.loads(cast(str, text))))
    except (TypeError, ValueError):
        return False


def _look_at_images(db: sqlite3.Connection, found: Found) -> None:
    count = 0
    for number, path, stored in db.execute(f"SELECT id, {KEY}, checksum FROM images"):
        count += 1
        if type(path) is not bytes or b".." in path.split(b"/") or checksum(number, path) != stored:
            found.spots.append(Spot("images", number, number, "path"))
    found.checked["images"] = count
    query = "SELECT id FROM images WHERE id NOT IN (SELECT image FROM rows WHERE part = 'whole')"
    found.spots += [Spot("rows", None, number, "row") for (number,) in db.execute(query)]
    (found.waiting,) = db.execute(
        "SELECT count(*) FROM images WHERE error IS NULL AND id NOT IN (SELECT image FROM rows JOIN codes ON row = id)"
    ).fetchone()


def _look_at_parts(db: sqlite3.Connection, found: Found) -> None:
    counts: Counter[tuple[int, str]] = Counter()
    for row, image, text, box, name in db.execute("SELECT id, image, part, box, name FROM rows WHERE id <> image"):
        try:
            part_of_row(row, image, text, box, name)
        except ValueError:
            found.spots.append(Spot("parts", row, image, _what(text)))
        else:
            counts[image, text] += 1
    for (image, text), count in counts.items():
        if not is_complete(text, count):
            found.spots.append(Spot("parts", None, image, _what(text)))
    found.checked["parts"] = counts.total()


def _what(text: object) -> str:
    return "box" if group_of(text) in (BOX, NEW_BOX) else "part"


class _Rows(NamedTuple):
    table: str
    what: str
    query: str
    """Gives key, image, checksum and the values that it is of."""


def _of_row(table: str, what: str, key: str, values: str) -> _Rows:
    joined = f"FROM {table} JOIN rows ON rows.id = {table}.row"
    return _Rows(table, what, f"SELECT {table}.{key}, rows.image, {table}.checksum, {values} {joined}")


_ROWS = (
    _of_row("codes", "code", "row", "code"),
    _of_row("embeddings", "embedding", "row", "vector, norm"),
    _of_row("neighbours", "neighbours", "row", "ids, weights"),
    _Rows("looks", "look", "SELECT image, image, checksum, blocks, grey FROM looks"),
    _Rows("thumbnails", "thumbnail", "SELECT image, image, checksum, thumbnail FROM thumbnails"),
)


def _rows_of(kind: _Rows) -> Any:
    def look(db: sqlite3.Connection, found: Found) -> None:
        lengths = _lengths(db, kind.table)
        count = 0
        for key, image, stored, *values in db.execute(kind.query):
            count += 1
            parts = [packed(value) if type(value) is float else value for value in values]
            whole = {*map(type, parts)} == {bytes} and checksum(key, *parts) == stored
            if not whole or (lengths is not None and [*map(len, parts)] != lengths):
                found.spots.append(Spot(kind.table, key, image, kind.what))
        found.checked[kind.table] = count

    return look


def _lengths(db: sqlite3.Connection, table: str) -> list[int] | None:
    """How many bytes the values of a table's rows have; None where they may differ."""
    if table == "codes":
        row = db.execute("SELECT levels FROM heads JOIN settings ON key = 'head' AND value = heads.id").fetchone()
        return None if row is None or not _are_levels(row[0]) else [Levels(json.loads(row[0])).n_bytes]
    if table == "embeddings":
        row = db.execute(
            "SELECT length(vector) FROM embeddings GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
        ).fetchone()
        return None if row is None else [row[0], 8]
    return {"neighbours": [8 * NEIGHBOURS, 4 * NEIGHBOURS], "looks": [256, 1024]}.get(table)


@dataclass(frozen=True)
class Checked:
    """What `Gallery.check` found, and what it repaired."""

    damaged: list[Damage]
    checked: dict[str, int]
    """How many rows of each kind were looked at."""
    waiting: int
    """Images that wait to be encoded: at the next `Gallery.update`."""
    traces: bool = False
    """Whether the file may still hold bytes of images that were forgotten."""
    repaired: bool = False
    """Whether all that was damaged has been made again."""
    away: list[str] = field(default_factory=list)
    """Images that could not be encoded again, because their files are not there or cannot be read; they wait."""
    notes: list[str] = field(default_factory=list)
    """What else became of the gallery in its repair."""
    kept: str | None = None
    """Where the damaged file is now, if it could not be repaired in its place."""


class Damage(NamedTuple):
    """Something in a gallery that is not what it was."""

    path: str
    """Of the image that it belongs to; of the gallery's file where it belongs to none."""
    what: str


def damage_of(found: Found, file: Path, folders: Folders) -> list[Damage]:
    """Return damage by image, for people."""
    listed = []
    for spot in found.spots:
        path = os.fspath(file)
        if spot.image is not None:
            known = found.paths.get(spot.image)
            known = known if spot.table != "images" else None
            path = f"{file} (image {spot.image})" if known is None else folders.join(os.fsdecode(known))
        listed.append(Damage(path, spot.what))
    return listed
