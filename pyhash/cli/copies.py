"""How groups of copies are shown: as text, JSON, CSV, and paths alone."""

from __future__ import annotations

import csv
import datetime
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

import click

from ..copies import Copy, Duplicates, Group
from ..support import many, printable, size
from .output import print_table, warn

_COLUMNS = (
    "level",
    "group",
    "path",
    "relation",
    "differs",
    "width",
    "height",
    "bytes",
    "modified",
    "format",
    "sharpness",
    "certainty",
    "joined_by",
    "away",
    "reference",
    "reason",
)

_SURE = 0.95
"""Above it nothing is said of how sure a copy is."""


def groups_as_json(found: Duplicates) -> dict[str, Any]:
    """Return groups as JSON shows them: copies, and apart from them what is only similar."""
    shown: dict[str, list[Any]] = {"duplicates": [], "similar": []}
    for group in found.groups:
        shown[group.level].append(
            [copy_as_json(copy) | {"reason": "" if place else group.reason} for place, copy in enumerate(group.images)]
        )
    return {
        "groups": shown["duplicates"],
        "similar": shown["similar"],
        "images": found.images,
        "waiting": found.waiting,
        "away": found.away,
        "uncompared": [{"path": one.path, "reason": one.reason} for one in found.uncompared],
    }


def copy_as_json(copy: Copy) -> dict[str, Any]:
    """Return a copy as JSON shows it."""
    fields = copy._asdict()
    fields["bytes"] = fields.pop("n_bytes")
    fields["digest"] = None if copy.digest is None else copy.digest.hex()
    fields["differs"] = [*copy.differs]
    return fields


def print_groups(found: Duplicates) -> None:
    """Print a table of each group, and how many there are."""
    for group in found.groups:
        kind = "similar: " if group.level == "similar" else ""
        click.secho(f"{kind}{many(len(group.images), 'image')}, first the best: {printable(group.reason)}", bold=True)
        print_copies(group.images)
        click.echo()
    for level, of in (("duplicates", ""), ("similar", " of similar images")):
        groups = of_level(found.groups, level)
        if groups:
            extra = sum(len(group.images) - 1 for group in groups)
            click.echo(f"{many(len(groups), 'group')}{of}, {many(extra, 'image')} beyond the first of each")
    if not found.groups:
        click.echo(f"no duplicates among {many(found.images, 'image')}")


def print_copies(copies: Sequence[Copy]) -> None:
    """Print a line for each copy."""
    if copies:
        print_table([*map(_cells, copies)], right=[1, 2])


def print_uncompared(found: Duplicates) -> None:
    """Name on stderr what could not be compared."""
    for one in found.uncompared:
        warn(f"not compared: {printable(one.path)}: {printable(one.reason)}")


def print_csv(found: Duplicates) -> None:
    """Print a line for each image, under a line of names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for number, group in enumerate(found.groups, 1):
        for place, copy in enumerate(group.images):
            writer.writerow(
                [
                    group.level,
                    number,
                    copy.path,
                    copy.relation,
                    "; ".join(copy.differs),
                    copy.width,
                    copy.height,
                    copy.n_bytes,
                    written(copy),
                    copy.format,
                    copy.sharpness,
                    copy.certainty,
                    copy.joined_by,
                    int(copy.away),
                    int(copy.reference),
                    "" if place else group.reason,
                ]
            )
    click.echo(os.fsencode(text.getvalue()), nl=False)


def print_group_paths(groups: Sequence[Group], *, null: bool) -> None:
    """Print the paths of each group, the best first, as they are; after each group an empty line, or a NUL."""
    end = b"\0" if null else b"\n"
    for group in groups:
        for copy in group.images:
            click.echo(os.fsencode(copy.path) + end, nl=False)
        click.echo(end, nl=False)


def of_level(groups: Iterable[Group], level: str) -> list[Group]:
    """Return the groups of a level."""
    return [group for group in groups if group.level == level]


def _cells(copy: Copy) -> list[str]:
    what = [copy.relation, *copy.differs]
    if copy.joined_by:
        what.append(f"joined by {os.path.basename(copy.joined_by)}")
    if copy.certainty < _SURE:
        what.append(f"{copy.certainty:.0%} sure")
    if copy.away:
        what.append("away")
    if copy.reference:
        what.append("never touched")
    pixels = "" if copy.width is None else f"{copy.width} x {copy.height}"
    return [", ".join(what), pixels, size(copy.n_bytes), copy.format or "", written(copy)[:10], copy.path]


def written(copy: Copy) -> str:
    """When an image was written, in this machine's time; empty where no calendar has it."""
    try:
        return datetime.datetime.fromtimestamp(copy.mtime_ns // 10**9).isoformat(" ")
    except (OverflowError, ValueError, OSError):
        return ""
