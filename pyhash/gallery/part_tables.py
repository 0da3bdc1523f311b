"""What a gallery's file holds of the parts of images: rows that are no wholes.

A row says of which group of parts it is and how many the image has of that group, so that it is noticed where one is
lost: ``turned 7``, ``tile 2x2 5``, ``box 3``; or ``new box 3``, as long as the image was not encoded with these boxes.
In the column `box` stands a checksum of the row, and where the part lies, if it is not the whole image turned.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from ..images import Part
from .opening import checksum, damaged
from .parts import PartRows, as_rows
from .records import PartRecord, Wishes

BOX, NEW_BOX = "box", "new box"
_KINDS = ("turned", "tile", "box")
_ROWS = "SELECT rows.id, rows.image, rows.part, rows.box, rows.name FROM rows "


class PartTables:
    """Of one open gallery file; everything happens inside its transactions."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    # Reading

    def coded(self, since: int | None = None) -> PartRows:
        """All rows that can be searched, or those changed since a revision."""
        changed = "" if since is None else "AND rows.id IN (SELECT row FROM changes WHERE revision > ?) "
        query = (
            f"{_ROWS} JOIN codes ON codes.row = rows.id JOIN settings ON key = 'head' AND value = codes.head "
            f"WHERE rows.id <> rows.image {changed}ORDER BY rows.id"
        )
        found = self._db.execute(query, () if since is None else (since,))
        return as_rows([(row[0], row[1], self._part(row)[1]) for row in found])

    def groups(self) -> dict[int, dict[str, int]]:
        """Of each image that has parts, how many it has of each group, as the rows say it."""
        found: dict[int, dict[str, int]] = defaultdict(dict)
        query = "SELECT image, part, count(*) FROM rows WHERE id <> image GROUP BY image, part"
        for image, text, count in self._db.execute(query):
            found[image][text] = count
        return found

    def boxes(self) -> dict[int, tuple[Part, ...]]:
        """The boxes of images, by their ids."""
        found: dict[int, list[Part]] = defaultdict(list)
        query = f"{_ROWS} WHERE part LIKE 'box %' OR part LIKE 'new box %' ORDER BY id"
        for row in self._db.execute(query):
            found[row[1]].append(self._part(row)[1])
        return {image: tuple(parts) for image, parts in found.items()}

    def of_image(self, image: int) -> Iterator[tuple[int, str, Part]]:
        """The rows of an image that are parts, with their groups."""
        for row in self._db.execute(f"{_ROWS} WHERE image = ? AND id <> image ORDER BY id", (image,)).fetchall():
            group, part = self._part(row)
            yield row[0], group, part

    def _part(self, row: tuple[Any, ...]) -> tuple[str, Part]:
        try:
            return part_of_row(*row)
        except ValueError as error:
            raise damaged(self._path, str(error)) from error

    # Writing

    def put(self, image: int, parts: Sequence[PartRecord]) -> list[int]:
        """Store the parts of an image beside those that it has; return the ids of their rows."""
        if not parts:
            return []
        counts = Counter(part.group for part in parts)
        (last,) = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'rows'").fetchone()
        values = []
        for row, one in enumerate(parts, last + 1):
            text, place = f"{one.group} {counts[one.group]}", _place(one.part)
            seal = _checksum(row, image, text, place, one.part.name)
            values.append((row, image, text, f"{seal}{place}", one.part.name))
        self._db.executemany("INSERT INTO rows (id, image, part, box, name) VALUES (?, ?, ?, ?, ?)", values)
        return [row for row, *_ in values]

    def put_boxes(self, image: int, boxes: Sequence[Part]) -> list[int]:
        """Store boxes of an image, yet to be encoded, in place of those that it has; return the rows of all."""
        gone = self._drop("image = ? AND (part LIKE 'box %' OR part LIKE 'new box %')", image)
        return gone + self.put(image, [PartRecord(NEW_BOX, part) for part in boxes])

    def drop(self, image: int) -> list[int]:
        """Drop all parts of an image; return their rows."""
        return self._drop("image = ? AND id <> image", image)

    def drop_unwished(self, wishes: Wishes, *, boxes: bool) -> list[int]:
        """Drop the parts of groups that are not wished, and where that is said boxes; return their rows."""
        known = {group_of(text) for (text,) in self._db.execute("SELECT DISTINCT part FROM rows WHERE id <> image")}
        unwished = known - wishes.groups - ({BOX, NEW_BOX} if boxes else set())
        return [row for group in sorted(unwished) for row in self._drop("part LIKE ?", f"{group} %")]

    def _drop(self, which: str, value: int | str) -> list[int]:
        rows = [row for (row,) in self._db.execute(f"SELECT id FROM rows WHERE {which}", (value,)).fetchall()]
        self._db.execute(f"DELETE FROM rows WHERE {which}", (value,))
        return rows


def lacks(groups: dict[str, int], wishes: Wishes) -> bool:
    """Whether an image with these parts lacks some that are wished."""
    whole = {group_of(text) for text, count in groups.items() if is_complete(text, count)}
    return len(whole) != len(groups) or NEW_BOX in whole or not wishes.groups <= whole


def is_complete(text: str, count: int) -> bool:
    """Whether there are as many rows of a group as they say."""
    return text.rpartition(" ")[2] == str(count)


def group_of(text: object) -> str:
    """The group that is named in a row."""
    return str(text).rpartition(" ")[0]


def part_of_row(row: object, image: object, text: object, box: object, name: object) -> tuple[str, Part]:
    """Return the group and the part that a row is; ValueError when it is not what was stored."""
    if type(row) is int and type(image) is int and type(text) is str and type(box) is str:
        group, (seal, *numbers) = group_of(text), box.split(" ")
        kind = group.removeprefix("new ").partition(" ")[0]
        named = name if type(name) is str else None
        if kind in _KINDS and seal == str(_checksum(row, image, text, box[len(seal) :], named)):
            place = tuple(map(int, numbers))
            return group, Part(cast(Any, kind), cast(Any, place) or None, named)
    raise ValueError(f"row {row}, a part of image {image}, does not match its checksum")


def _place(part: Part) -> str:
    return "" if part.box is None else "".join(f" {edge}" for edge in part.box)


def _checksum(row: int, image: int, text: str, place: str, name: str | None) -> int:
    return checksum(row, f"{image} {text}{place} {name or ''}".encode(errors="surrogateescape"))
