"""An HTML sheet of images: thumbnails, distances and paths in one file that needs nothing else."""

from __future__ import annotations

import base64
import datetime
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from ..errors import ImageError
from ..support import files, printable, require

if TYPE_CHECKING:
    from ..images import Box, Part

MARKS = [b'<meta name="generator" content="pyhash">', " · pyhash</title>".encode()]
THUMBNAIL_SIZE = 300
"""Longest side of a thumbnail, in pixels."""


class Other(NamedTuple):
    """An image beside others."""

    image: str
    """Its path."""
    distance: int
    similarity: float | None = None
    part: Part | None = None
    """Which part of it is meant; None for the whole."""
    copies: int = 0
    """How many copies of it stand behind it."""


class Row(NamedTuple):
    """One image, or several, and those beside them."""

    images: Sequence[str]
    """Paths of the images that stand in front."""
    others: Sequence[Other]
    """Nearest first."""
    without: Sequence[str] = ()
    """Paths of images that the others are not to be like."""
    title: str = ""
    """Of the others."""
    more: Sequence[tuple[str, Sequence[Other]]] = ()
    """Titles, and others that stand beside these."""
    crop: Box | None = None
    """Which part of the images in front is meant; None for the whole."""


class _Tile(NamedTuple):
    path: str
    name: str
    where: str
    link: str
    image: str | None
    size: tuple[int, int]
    box: Box | None = None  # in pixels of an image of that size
    part: str = ""
    distance: int | None = None
    similarity: str | None = None
    share: int | None = None  # of the bar, in per cent
    copies: str = ""


def check_target(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise ForeignFileError when `write_sheet` would not write there."""
    files.check_target(path, MARKS, overwrite=overwrite)


def write_sheet(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    *,
    title: str,
    label: str,
    facts: Mapping[str, str],
    folder: str = "",
    small: Callable[[str], bytes | None] | None = None,
    far: float,
    note: str = "",
    nothing: str = "",
    date: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write images and those beside them as one HTML file.

    Parameters
    ----------
    path : path
        The file to write; it appears whole or not at all.
    rows : sequence of Row
        What to show. An image that cannot be read is shown as an empty tile.
    title : str
        The heading.
    label : str
        What the first image of each row is called.
    facts : mapping of str to str
        Shown under the heading.
    folder : str, optional
        Of paths under it only the part inside is shown.
    small : callable, optional
        Gives the small JPEG that is kept of one of the others, or None: then its file is not opened, unless a box is to
        be drawn in it.
    far : float
        The distance of images that have nothing in common: there a bar is empty; it is full at 0. Where there is a
        similarity, it shows that.
    note, nothing : str
        A sentence about the distances, and one to show when there are no rows.
    date : str, optional
        By default now.
    overwrite : bool
        Replace a file that is no such sheet, too.

    Raises
    ------
    ImportError
        When Jinja2 or Pillow is not installed.
    ForeignFileError
        When a file is there that is no such sheet.
    OSError
        When the file cannot be written.
    """
    check_target(path, overwrite=overwrite)  # better said before the images are read
    target = os.path.abspath(Path(path).parent)
    images: dict[str, tuple[str | None, tuple[int, int]]] = {}

    def tile(image: str, box: Box | None = None, kept: bytes | None = None) -> _Tile:
        shown: str | None
        if kept is not None and (box is None or not os.path.exists(image)):
            shown, size, box = _as_uri(kept), (1, 1), None
        else:
            if image not in images:
                images[image] = thumbnail(image)
            shown, size = images[image]
        inside = image.removeprefix(os.path.join(folder, "")) if folder else image
        where, name = os.path.split(inside)
        return _Tile(
            path=printable(image),
            name=printable(name),
            where=printable(where),
            link=link_to(image, target),
            image=shown,
            size=size,
            box=box,
            part="" if box is None else "part",
        )

    def beside(other: Other) -> _Tile:
        near = 1 - other.distance / max(1.0, far) if other.similarity is None else other.similarity
        part = other.part
        kept = None if small is None else small(other.image)
        return tile(other.image, None if part is None else part.box, kept)._replace(
            part="" if part is None else printable(part.name or part.kind),
            distance=other.distance,
            similarity=None if other.similarity is None else f"{other.similarity:.2f}",
            share=round(100 * max(0.0, near)),
            copies="" if not other.copies else "and 1 copy" if other.copies == 1 else f"and {other.copies:,} copies",
        )

    jinja2 = require("jinja2", "cli")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pyhash.pages", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    html: str = environment.get_template("sheet.html").render(
        title=title,
        label=label,
        facts={name: printable(value) for name, value in facts.items()},
        rows=[
            {
                "heads": [tile(image, row.crop) for image in row.images],
                "without": [*map(tile, row.without)],
                "lists": [
                    {"title": heading, "tiles": [*map(beside, others)]}
                    for heading, others in ((row.title, row.others), *row.more)
                ],
            }
            for row in rows
        ],
        note=note,
        nothing=nothing,
        date=date or datetime.datetime.now().strftime("%d %B %Y, %H:%M").lstrip("0"),
    )
    files.write(path, [html.encode()], MARKS, overwrite=overwrite)


def thumbnail(path: str | os.PathLike[str]) -> tuple[str | None, tuple[int, int]]:
    """Return a small JPEG of an image as a ``data:`` URI, and the width and height of the image itself.

    None where it cannot be read.
    """
    from ..images import opened

    image_module: Any = require("PIL.Image", "encoder")
    try:
        with opened(path, at_least=THUMBNAIL_SIZE) as image:
            size, pixels = image.size, image.pixels(longest=THUMBNAIL_SIZE, resize="bicubic")
    except ImageError:
        return None, (1, 1)
    buffer = io.BytesIO()
    image_module.fromarray(pixels).save(buffer, "JPEG", quality=82, optimize=True)
    return _as_uri(buffer.getvalue()), size


def _as_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def link_to(image: str, target: str) -> str:
    """A link from the sheet's folder, so that a folder moved as a whole keeps its links."""
    image = os.path.abspath(image)
    try:
        relative = os.path.relpath(image, target).replace(os.sep, "/")
    except ValueError:  # another drive
        return Path(image).as_uri()
    return "./" + quote(os.fsencode(relative))
