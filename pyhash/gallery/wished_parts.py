"""Which parts the images of a gallery are to have, and which images lack some."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..images import Views, size_of
from .boxes import Boxed, by_image, check_inside
from .folders import Folders
from .part_tables import BOX
from .recognising import Files
from .records import Embedding, Known, PartRecord, Wishes
from .store import GalleryFile

if TYPE_CHECKING:
    from ..encoder import Encoded


def boxes_of(boxed: Sequence[Boxed], folders: Folders, files: Files, known: Iterable[str]) -> dict[str, list[Boxed]]:
    """Lay boxes to the images that they are of, by their keys.

    Boxes of images that are left out are passed over, and of those that cannot be seen taken as they are.

    Raises
    ------
    BoxError
        When a path names no image.
    """
    here = {image.path for image in files.images}.union(known)

    def image_of(path: str) -> str | None:
        keys = [*_meant(folders, path)]
        found = next((files.others.get(key, key) for key in keys if key in here or key in files.others), None)
        left_out = any(os.path.lexists(folders.join(key)) for key in keys)
        return "" if found is None and left_out else found

    given = by_image(boxed, image_of)
    given.pop("", None)
    return given


def _meant(folders: Folders, path: str) -> Iterator[str]:
    """The keys that are meant by a path from a folder, or by one in the file system."""
    there, inside = folders.meant(path)
    yield from inside
    for root in folders.roots.values():  # it may be that of a link
        yield from folders.meant(os.path.join(root, path)).there
    yield from there


def check_boxes(
    file: GalleryFile, given: Mapping[str, list[Boxed]], folders: Folders, files: Files, known: Mapping[str, Known]
) -> None:
    """Look whether boxes that are new lie in their images, where these can be read.

    Raises
    ------
    BoxError
        When one does not.
    """
    if not given:
        return
    with file.reading():
        stored = file.parts.boxes()
    seen = {image.path for image in files.images}
    for key, boxed in given.items():
        of_image = {*stored.get(known[key].id, ())} if key in known else set()
        if key in seen and {one.part for one in boxed} != of_image:
            with contextlib.suppress(ImageError):
                check_inside(boxed, *size_of(folders.join(key)))


def note_parts(file: GalleryFile, wishes: Wishes, given: Mapping[str, list[Boxed]], *, boxes: bool) -> None:
    """Store boxes, and drop the parts that are not wished; unless `boxes` are, all of them."""
    touched = file.parts.drop_unwished(wishes, boxes=boxes)
    stored = file.parts.boxes() if given else {}
    for image, boxed in zip(file.ids_of(given), given.values(), strict=True):
        parts = [one.part for one in boxed]
        if image is not None and {*parts} != {*stored.get(image, ())}:
            touched += file.parts.put_boxes(image, parts)
    if touched:
        file.note(touched)


def views_of(file: GalleryFile, wishes: Wishes, keys: Sequence[str]) -> list[Views]:
    """What is to be looked at of each image."""
    with file.reading():
        boxes = file.parts.boxes()
        images = file.ids_of(keys) if boxes else [None] * len(keys)
    tiles = (wishes.tiles[0], wishes.tiles[1]) if wishes.tiles else None
    return [Views(wishes.turned, tiles, () if image is None else boxes.get(image, ())) for image in images]


def records_of(
    encoded: Encoded, wishes: Wishes, stored: Callable[[NDArray[np.float32]], Embedding]
) -> list[PartRecord]:
    """What is stored of the parts of an image; `stored` makes what is stored of an embedding."""
    tile = "tile {}x{}".format(*wishes.tiles) if wishes.tiles else ""
    return [
        PartRecord(
            tile if one.part.kind == "tile" else one.part.kind,
            one.part,
            None if one.code is None else np.asarray(one.code, np.uint8).tobytes(),
            None if one.embedding is None else stored(one.embedding),
        )
        for one in encoded.parts
    ]


def lost_boxes(views: Views, records: Sequence[PartRecord]) -> int:
    """How many boxes do not lie in their image, which has become another."""
    return len(views.boxes) - sum(record.group == BOX for record in records)
