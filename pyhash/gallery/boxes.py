"""Boxes of images, as a detector found them: read from a CSV file, and laid to the images that they are of."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ..errors import BoxError
from ..images import Box, Part
from .results import PathLike

BoxesLike: TypeAlias = PathLike | Mapping[PathLike, Sequence[Box]]
"""A CSV file, or the boxes of each image."""

_EDGES = ("x0", "y0", "x1", "y1")
_DELIMITERS = ",;\t|"


class Boxed(NamedTuple):
    """A box of an image, and where that was said."""

    path: str
    part: Part
    where: str
    """For an error."""


def read_boxes(source: BoxesLike) -> list[Boxed] | None:
    """Read boxes: of a CSV file with a column ``path`` and those of the edges, or of a mapping.

    None where a file has no boxes, which says nothing of any image.

    Raises
    ------
    BoxError
        When a line of the file is wrong; it is named, and its column.
    OSError
        When the file cannot be read.
    """
    if isinstance(source, Mapping):
        return [
            Boxed(os.fspath(path), _part(dict(zip(_EDGES, box, strict=True)), "", where), where)
            for path, boxes in source.items()
            for number, box in enumerate(boxes)
            for where in [f"boxes of {os.fspath(path)}, number {number}"]
        ]
    name = Path(source).name
    text = Path(source).read_bytes().decode("utf-8-sig", "surrogateescape")
    lines = _lines(text, name)
    number, header = next(lines, (1, []))
    columns = {column.strip().lower(): place for place, column in reversed([*enumerate(header)])}
    missing = [column for column in ("path", *_EDGES) if column not in columns]
    if missing:
        raise BoxError(
            f"line {number} of {name} must name the columns path, x0, y0, x1, y1 and, if there are names, name; it "
            f"lacks {', '.join(missing)}, and has {', '.join(map(repr, header)) or 'none'}"
        )
    found = []
    for number, line in lines:
        where = f"line {number} of {name}"
        if len(line) != len(header):
            raise BoxError(f"{where} must have {len(header)} columns, as its header has, got {len(line)}")
        values = {column: line[place].strip() for column, place in columns.items()}
        if not values["path"]:
            raise BoxError(f"{where}, column path: must name an image, got nothing")
        label = values.get("name", "").encode(errors="surrogateescape").decode(errors="replace")
        found.append(Boxed(values["path"], _part(values, label, where), where))
    return found or None


def _lines(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a CSV file that hold something, each with its number in the file."""
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    before = 0
    while True:
        try:
            line = next(reader, None)
        except csv.Error as error:
            raise BoxError(f"line {before + 1} of {name} is not CSV: {error}; save the file as CSV in UTF-8") from error
        if line is None:
            return
        if any(cell.strip() for cell in line):
            yield before + 1, line
        before = reader.line_num


def _part(values: Mapping[str, Any], label: str, where: str) -> Part:
    """Return a box whose edges are whole pixels."""
    edges = []
    for column in _EDGES:
        try:
            value = float(values[column])
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise BoxError(f"{where}, column {column}: must be a number of pixels, got {values[column]!r}")
        edges.append(round(value))
    left, top, right, bottom = edges
    for first, last, low, high in (("x0", "x1", left, right), ("y0", "y1", top, bottom)):
        if low < 0:
            raise BoxError(f"{where}, column {first}: must be at least 0, got {values[first]}")
        if low >= high:
            raise BoxError(
                f"{where}, column {last}: the box is empty, {last} must be a pixel more than {first} or more, got "
                f"{first}={values[first]}, {last}={values[last]}"
            )
    return Part("box", (left, top, right, bottom), label.replace("\x1f", " ") or None)


def by_image(boxed: Sequence[Boxed], image_of: Callable[[str], str | None]) -> dict[str, list[Boxed]]:
    """Put boxes together by the key of their image, which `image_of` tells of a path; each box once.

    Raises
    ------
    BoxError
        When a path names no image.
    """
    found: dict[str, list[Boxed]] = {}
    keys: dict[str, str | None] = {}
    for one in boxed:
        if one.path not in keys:
            keys[one.path] = image_of(one.path)
        key = keys[one.path]
        if key is None:
            raise BoxError(
                f"{one.where}, column path: must name an image of the gallery's folder, by a path in it or in the file "
                f"system, got {one.path!r}"
            )
        listed = found.setdefault(key, [])
        listed.append(one)
    return {key: [*{one.part: one for one in reversed(listed)}.values()][::-1] for key, listed in found.items()}


def check_inside(boxed: Sequence[Boxed], width: int, height: int) -> None:
    """Raise BoxError when a box reaches beyond its image."""
    for one in boxed:
        assert one.part.box is not None
        _, _, right, bottom = one.part.box
        for column, edge, most, side in (("x1", right, width, "width"), ("y1", bottom, height, "height")):
            if edge > most:
                raise BoxError(
                    f"{one.where}, column {column}: the box must lie in the upright image, {one.path}, whose {side} is "
                    f"{most} pixels, got {edge}"
                )
