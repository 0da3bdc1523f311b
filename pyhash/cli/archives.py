"""What ``pyhash dedupe`` asks of an archive: what of it is in FOLDER, and whether it has a copy of an image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

from ..copies import Copy, Duplicates, Overlap, Share, inside_of, overlap
from ..errors import ImageError
from ..gallery import Gallery, default_file
from ..support import many, printable
from .copies import copy_as_json, print_copies
from .errors import Exit
from .output import print_json, print_skipped, print_table, skipped_as_json, warn


class Archive(NamedTuple):
    """What is searched against: another gallery, or a folder inside the one that is searched."""

    path: str
    gallery: Gallery | None

    @property
    def target(self) -> Gallery | str:
        """What `Gallery.duplicates` is to search against."""
        return self.path if self.gallery is None else self.gallery

    def thumbnail(self, copy: Copy) -> bytes | None:
        """Of an image of another gallery; None where it is in the one that is searched."""
        return None if self.gallery is None or not copy.reference else self.gallery.thumbnail(copy.path)


@contextmanager
def opened_archive(path: str | None, gallery: Gallery) -> Iterator[Archive | None]:
    """Open what `--against` names; with a warning where it was made with another encoder."""
    if path is None:
        yield None
    elif not os.path.isfile(path) and not os.path.isfile(default_file(path)) and inside_of(path, gallery.folders)[0]:
        yield Archive(path, None)
    else:
        with Gallery(path, create=False) as other:
            if os.path.samefile(other.file, gallery.file):
                raise click.UsageError("--against must name another gallery, or a folder inside FOLDER")
            if other.stats().fingerprint != gallery.stats().fingerprint:
                warn(
                    f"{printable(path)} was indexed with another encoder: candidates are found by their looks alone, "
                    "and copies that were cropped or lie on a screen are missed"
                )
            yield Archive(path, other)


class Overlaps(NamedTuple):
    """How many images of both sides have a copy on the other."""

    folder: Overlap
    against: Overlap


def overlaps(found: Duplicates, gallery: Gallery, archive: Archive) -> Overlaps:
    """Count what is on both sides."""
    if archive.gallery is None:
        around = [archive.path]
        theirs = [path for path in gallery if inside_of(path, around)[0]]
        mine = [path for path in gallery if not inside_of(path, around)[0]]
    else:
        around, mine, theirs = archive.gallery.folders, [*gallery], [*archive.gallery]
    return Overlaps(overlap(found.groups, mine, gallery.folders), overlap(found.groups, theirs, around, reference=True))


def overlaps_as_json(counted: Overlaps) -> dict[str, Any]:
    """Return it as JSON shows it."""

    def shown(share: Share) -> dict[str, Any]:
        return {"copies": share.copies, "images": share.images, "share": round(share.share, 6)}

    return {
        side: shown(of.whole) | {"by_class": {name: shown(share) for name, share in of.by_class.items()}}
        for side, of in counted._asdict().items()
    }


def print_overlaps(counted: Overlaps, folder: str, archive: str) -> None:
    """Say how many images of each side have a copy on the other, by the first folders inside both."""
    mine, theirs = counted
    names = sorted({*mine.by_class, *theirs.by_class})
    if len(names) > 1:
        rows = [
            [name or "(in no subfolder)", *_cells(mine.by_class.get(name)), *_cells(theirs.by_class.get(name))]
            for name in names
        ]
        click.echo()
        print_table(rows, ["subfolder", printable(folder), "", printable(archive), ""], right=[1, 2, 3, 4])
    for of, here, there in ((mine, folder, archive), (theirs, archive, folder)):
        copies, images = of.whole
        click.echo(
            f"of {many(images, 'image')} in {printable(here)} {copies:,} ({of.whole.share:.2%}) "
            f"{'has a copy' if copies == 1 else 'have copies'} in {printable(there)}"
        )


def _cells(share: Share | None) -> list[str]:
    return ["", ""] if share is None else [f"{share.copies:,} of {share.images:,}", f"{share.share:.2%}"]


def ask_for(
    gallery: Gallery,
    images: Sequence[str],
    *,
    turned: bool,
    cropped: bool,
    paths: bool,
    null: bool,
    as_json: bool,
    fail_if_found: bool,
) -> Exit:
    """Say of images whether the gallery has copies of them."""
    failed: list[ImageError] = []
    known: list[tuple[str, list[Copy]]] = []
    for image in images:
        try:
            known.append((image, gallery.duplicates_of(image, turned=turned, cropped=cropped)))
        except ImageError as error:
            failed.append(error)
    if as_json:
        results = [{"query": image, "copies": [*map(copy_as_json, copies)]} for image, copies in known]
        print_json({"results": results, "failed": skipped_as_json(failed)})
    elif paths or null:
        for _, copies in known:
            for copy in copies:
                click.echo(os.fsencode(copy.path) + (b"\0" if null else b"\n"), nl=False)
    else:
        for image, copies in known:
            found = f"{len(copies):,} {'copy' if len(copies) == 1 else 'copies'}" if copies else "no copy"
            click.secho(f"{printable(image)}: {found}", bold=True)
            print_copies(copies)
    print_skipped(failed)
    if fail_if_found and any(copies for _, copies in known):
        return Exit.FOUND
    return Exit.UNREADABLE if failed else Exit.DONE
