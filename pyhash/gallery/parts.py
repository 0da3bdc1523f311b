"""Parts of a gallery's images in memory: which image a row is of, and which part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..images import Part
from .packed import Packed

Ids = NDArray[np.int64]
_BETWEEN = "\x1f"  # of ASCII, and in no name


class PartRows(NamedTuple):
    """Rows that are parts of images, by ascending id."""

    ids: Ids
    images: Ids
    """Ids of their images, which are those of their wholes, too."""
    texts: list[bytes]
    """As `packed_part` makes them."""


class Parts:
    """The rows of one state of a gallery that are parts of images; every other row is a whole."""

    def __init__(self, ids: Ids, images: Ids, texts: Packed) -> None:
        self.ids, self._images, self._texts = ids, images, texts

    @classmethod
    def of(cls, rows: PartRows) -> Self:
        """Make it of all rows that are parts."""
        return cls(rows.ids, rows.images, Packed.pack(rows.ids, rows.texts))

    def changed(self, rows: PartRows, gone: Ids) -> Self:
        """Return what it becomes with some rows added or changed, and others gone."""
        if not len(rows.ids) and not np.isin(self.ids, gone).any():
            return self
        keep = ~np.isin(self.ids, np.concatenate([rows.ids, gone]))
        ids = np.concatenate([self.ids[keep], rows.ids])
        order = np.argsort(ids, kind="stable")
        images = np.concatenate([self._images[keep], rows.images])[order]
        return type(self)(ids[order], images, self._texts.changed(rows.ids, rows.texts))

    def __len__(self) -> int:
        return len(self.ids)

    def images_of(self, rows: Ids) -> Ids:
        """The image of each row; -1 stays."""
        if not len(self.ids):
            return rows
        slots = np.minimum(np.searchsorted(self.ids, rows), len(self.ids) - 1)
        return np.where(self.ids[slots] == rows, self._images[slots], rows)

    def rows_of(self, images: Ids) -> Ids:
        """All rows of some images."""
        return np.concatenate([images, self.ids[np.isin(self._images, images)]])

    def wholes(self, rows: Ids) -> Ids:
        """Those of ascending rows that are wholes."""
        return rows[~self.are_in(rows)] if len(self.ids) else rows

    def are_in(self, rows: Ids) -> NDArray[np.bool_]:
        """Which rows are parts."""
        found: NDArray[np.bool_] = self.images_of(rows) != rows
        return found

    def of_rows(self, rows: Ids) -> list[Part | None]:
        """Which part each row is; None for a whole."""
        return [*map(self.part_of, rows.tolist())] if len(self.ids) else [None] * len(rows)

    def part_of(self, row: int) -> Part | None:
        """Which part a row is; None for a whole."""
        slot = int(np.searchsorted(self.ids, row))
        if slot == len(self.ids) or self.ids[slot] != row:
            return None
        return unpacked_part(self._texts.of(self.ids[slot : slot + 1])[0])


def packed_part(part: Part) -> bytes:
    """Return a part in few bytes."""
    box = "" if part.box is None else " ".join(map(str, part.box))
    return _BETWEEN.join([part.kind, box, part.name or ""]).encode()


def unpacked_part(text: bytes) -> Part:
    """Return the part that these bytes are."""
    kind, box, name = text.decode().split(_BETWEEN)
    left, top, right, bottom = map(int, box.split()) if box else (0, 0, 0, 0)
    return Part(kind, (left, top, right, bottom) if box else None, name or None)  # type: ignore[arg-type]


def once_each(images: Ids) -> NDArray[np.intp]:
    """Where each image comes first, in the order that they have."""
    return np.sort(np.unique(images, return_index=True)[1])


NO_PARTS = PartRows(np.empty(0, np.int64), np.empty(0, np.int64), [])


def as_rows(found: Sequence[tuple[int, int, Part]]) -> PartRows:
    """Return rows of (id, image, part)."""
    if not found:
        return NO_PARTS
    ids, images, parts = zip(*found, strict=True)
    return PartRows(np.array(ids, np.int64), np.array(images, np.int64), [*map(packed_part, parts)])
