"""The commands ``pyhash index`` and ``fit``, and what ``demo`` shares with them."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import PyhashError
from ..gallery import Changes, Gallery
from ..images import is_empty
from ..support import many, printable, require
from .errors import Exit
from .options import (
    BytesType,
    FolderType,
    bits_option,
    folder_argument,
    gallery_encoder_options,
    gallery_option,
    json_option,
    parts_options,
)
from .output import (
    name_of,
    print_json,
    print_skipped,
    progress_bar,
    skipped_as_json,
    warn,
    warn_of_waiting,
)
from .watching import changes_under

if TYPE_CHECKING:
    from ..encoder import Encoder


@click.command("index", short_help="Encode the images in FOLDER, or bring its gallery up to date.")
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=FolderType())
@gallery_option
@gallery_encoder_options
@click.option("--rebuild", is_flag=True, help="Encode every image again, also when another encoder made the gallery.")
@click.option("--prune", is_flag=True, help="Drop images that are not there, however many they are.")
@click.option("--strict", is_flag=True, help="Exit with 1 when any image could not be read.")
@click.option(
    "--adapt/--no-adapt",
    default=None,
    help="Whether codes are fitted to the images, from about a hundred on; remembered.  [default: adapt]",
)
@click.option(
    "--embeddings/--no-embeddings",
    default=None,
    help="Whether embeddings are kept, which put answers in order; remembered.  [default: embeddings]",
)
@click.option(
    "--thumbnails/--no-thumbnails",
    default=None,
    help="Whether small images are kept, which sheets show; remembered.  [default: thumbnails]",
)
@bits_option
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out what this names, as in .gitignore: raw/ or *.png; may be given several times; remembered, in place "
    "of those before.",
)
@click.option("--no-exclude", is_flag=True, help="Take back the patterns that were remembered.")
@click.option(
    "--min-size",
    type=BytesType(),
    help="Leave out images whose files are smaller, such as 10k (10,000 bytes) or 2M; remembered; 0 takes it back.",
)
@parts_options
@click.option("--watch", is_flag=True, help="Then wait for changes in FOLDER, and follow them, until Ctrl-C.")
@json_option
def index_command(
    folders: tuple[str, ...],
    file: str | None,
    load_encoder: Callable[[], Encoder | None],
    rebuild: bool,
    prune: bool,
    strict: bool,
    adapt: bool | None,
    embeddings: bool | None,
    thumbnails: bool | None,
    bits: int | None,
    exclude: tuple[str, ...],
    no_exclude: bool,
    min_size: int | None,
    turned: bool | None,
    tiles: tuple[int, int] | None,
    no_tiles: bool,
    boxes: str | None,
    no_boxes: bool,
    watch: bool,
    as_json: bool,
) -> int:
    """Encode the images in FOLDER and its subfolders, or bring its gallery up to date.

    Run it again whenever you like: only new and changed images are encoded, not what was moved or renamed, and
    those that have gone are dropped. It can be interrupted at any moment and goes on where it stopped. Images that
    cannot be read are listed and skipped, which is not an error unless you say --strict (or none at all can be read).

    What cannot be seen is kept, and the exit code is 6: images whose disk is away or whose folder is empty, and all
    where more than a quarter of a folder would go. --prune drops them, but for what lies in a folder that cannot be
    listed.

    From about a hundred images on their codes are fitted to them: what tells them apart, and which are alike. As the
    folder grows this is done anew.

    Left out are names that begin with a dot, folders that systems make (@eaDir, $RECYCLE.BIN and their like), and what
    --exclude or a file .pyhashignore names: that may lie in any folder, and holds a pattern a line for what is below.

    Several folders make one gallery, in a file that --gallery names. Given with some of its folders, only those are
    brought up to date; a new one is added when it is given with one that the gallery has. A folder that is not there
    keeps its images, and the exit code is 6.

    With --turned, --tiles or --boxes images are also found by their parts. In an answer each image comes once, by the
    part that is nearest. A file of boxes replaces those of the images that it names; paths in it are from FOLDER or in
    the file system.

    \b
    Examples:
      pyhash index ~/Pictures
      pyhash index ~/Pictures /mnt/disk/photos --gallery ~/photos.sqlite
      pyhash index ~/Pictures --exclude raw/ --exclude '*.png' --min-size 20k
      pyhash index /mnt/read-only --gallery ~/photos.sqlite
      pyhash index ~/Pictures --encoder model.onnx --rebuild
      pyhash index ~/Pictures --watch
      pyhash index ~/Shop --tiles 2x2 --boxes detected.csv
    """
    pairs = {"exclude": (exclude, no_exclude), "tiles": (tiles, no_tiles), "boxes": (boxes, no_boxes)}
    for name, (given, taken_back) in pairs.items():
        if given and taken_back:
            raise click.UsageError(f"--{name} and --no-{name} cannot be given together")
    if len(folders) > 1 and file is None:
        raise click.UsageError("several folders need --gallery FILE: where their gallery is kept")
    if watch:
        require("watchfiles", "watch")  # before anything else is done
    with Gallery(
        folders,
        load_encoder(),
        file,
        create=not all(map(is_empty, folders)),  # a gallery must not come to lie where a disk will be mounted
        rebuild=rebuild,
        adapt=adapt,
        embeddings=embeddings,
        thumbnails=thumbnails,
        levels=bits,
        exclude=exclude if exclude or no_exclude else None,
        min_size=min_size,
        turned=turned,
        tiles=() if no_tiles else tiles,
    ) as gallery:
        told: str | dict[Any, Any] | None = {} if no_boxes else boxes
        code, last = _bring_up_to_date(gallery, prune=prune, strict=strict, as_json=as_json, boxes=told)
        for _ in changes_under(_watched(folders, gallery), gallery.file) if watch else ():
            code, last = _bring_up_to_date(gallery, prune=prune, strict=strict, as_json=as_json, last=last)
    return code


def _watched(folders: Sequence[str], gallery: Gallery) -> Sequence[str]:
    """The folders to watch: all that a gallery remembers where its file was given."""
    return [folder for folder in folders if os.path.isdir(folder)] or gallery.folders


def _bring_up_to_date(
    gallery: Gallery,
    *,
    prune: bool,
    strict: bool,
    as_json: bool,
    boxes: str | dict[Any, Any] | None = None,
    last: Changes | None = None,
) -> tuple[Exit, Changes]:
    """Update a gallery and say what was done, after the `last` time only what is new; return how to exit, and that."""
    changes = update(gallery, prune=prune, boxes=boxes)
    searchable = len(gallery)
    several = len(gallery.folders) > 1
    waiting = gallery.stats().waiting if several else 0  # in folders that were not given, or that are away
    if last is None or _is_news(changes, last):
        _tell(gallery, changes, searchable, waiting, as_json=as_json)
    return _how_to_exit(changes, searchable, waiting, strict=strict), changes


def _is_news(changes: Changes, last: Changes) -> bool:
    """Whether anything was done, or other images than the last time cannot be read or seen."""
    done = changes.added or changes.changed or changes.removed or changes.moved or changes.excluded
    stands = (changes.failed, changes.kept, changes.withheld, changes.away)
    return bool(done) or stands != (last.failed, last.kept, last.withheld, last.away)


def _how_to_exit(changes: Changes, searchable: int, waiting: int, *, strict: bool) -> Exit:
    if changes.failed and (strict or not searchable):
        return Exit.UNREADABLE
    if waiting and not changes.away:
        return Exit.UNREADABLE
    return Exit.KEPT if changes.kept or changes.withheld or changes.away else Exit.DONE


def _tell(gallery: Gallery, changes: Changes, searchable: int, waiting: int, *, as_json: bool) -> None:
    """Say what an update did."""
    if as_json:
        print_json(
            {
                "folder": gallery.folder,
                "folders": gallery.folders,
                "gallery": os.fspath(gallery.file),
                "images": searchable,
                "parts": changes.parts,
                "added": changes.added,
                "changed": changes.changed,
                "removed": changes.removed,
                "excluded": changes.excluded,
                "unchanged": changes.unchanged,
                "moved": changes.moved,
                "names": changes.names,
                "kept": changes.kept,
                "withheld": changes.withheld,
                "away": changes.away,
                "again": changes.again,
                "adapted": None if changes.adapted is None else changes.adapted._asdict(),
                "lost_boxes": changes.lost_boxes,
                "passed_over": changes.passed_over,
                "links": changes.links,
                "failed": skipped_as_json(changes.failed),
            }
        )
    else:
        click.echo(summary(changes, searchable))
        print_adapted(changes)
        print_passed_over(changes)
        if not searchable and not changes.failed:
            there = f"; it holds {in_kinds(changes.passed_over)}" if changes.passed_over else ""
            click.echo(f"no images found in {printable(', '.join(gallery.folders))}{there}", err=True)
    print_skipped(changes.failed)
    several = len(gallery.folders) > 1
    for away, kept in changes.away.items() if several else ():
        warn(f"{printable(away)} is away or empty: its {many(kept, 'image')} are kept")
    if changes.kept > sum(changes.away.values()) * several:
        warn(
            f"{many(changes.kept, 'image')} kept that cannot be seen: is a disk away? --prune drops what can be listed"
        )
    if changes.withheld:
        warn(f"{many(changes.withheld, 'image')} gone, and none dropped as they are so many; --prune drops them")
    if changes.lost_boxes:
        count = "1 box was" if changes.lost_boxes == 1 else f"{changes.lost_boxes:,} boxes were"
        warn(f"{count} dropped: their images have changed and are smaller now; --boxes gives others")
    warn_of_waiting(name_of(gallery), waiting)


@click.command("fit", short_help="Fit the codes of FOLDER's gallery to its images, with labels or without.")
@folder_argument
@click.option(
    "--labels",
    metavar="SOURCE",
    help="folders, or a CSV or JSON file: what the images show, as for `pyhash eval`.  [default: none]",
)
@bits_option
@gallery_option
@gallery_encoder_options
@json_option
def fit_command(
    folder: str,
    labels: str | None,
    bits: int | None,
    file: str | None,
    load_encoder: Callable[[], Encoder | None],
    as_json: bool,
) -> int:
    """Fit the codes of FOLDER's gallery to its images, in seconds: no image is opened.

    FOLDER must have been indexed. With labels, codes and similarities tell apart what the labels do. Without, they tell
    apart what is in the images, which `pyhash index` does by itself from about a hundred on.

    \b
    Examples:
      pyhash fit ~/Pictures --labels folders
      pyhash fit ~/Pictures --labels kinds.csv
      pyhash fit ~/Pictures --bits 128
    """
    with Gallery(folder, load_encoder(), file, create=False) as gallery:
        try:
            adapted = gallery.fit(labels, levels=bits)
        except PyhashError:
            raise
        except ValueError as error:  # labels or levels that do not fit together
            raise click.UsageError(str(error)) from error
        stats = gallery.stats()
    if as_json:
        print_json({"folder": folder, "images": adapted.images, "fitted_on": stats.fitted_on, "made_of": stats.made_of})
    else:
        click.echo(f"codes fitted to {many(stats.fitted_on or 0, 'image')}, {many(adapted.images, 'image')} coded")
    return Exit.DONE


def update(gallery: Gallery, *, prune: bool = False, boxes: str | dict[Any, Any] | None = None) -> Changes:
    """Update behind a progress bar."""
    try:
        with progress_bar("looking for images", "encoding") as progress:
            return gallery.update(prune=prune, boxes=boxes, progress=progress)
    except KeyboardInterrupt:
        stats = gallery.stats()
        warn_of_waiting(name_of(gallery), stats.waiting, stats.lacking)
        raise


def summary(changes: Changes, searchable: int) -> str:
    """Return in a line what an update did."""
    counts = {
        "added": changes.added,
        "changed": changes.changed,
        "moved": changes.moved,
        "removed": changes.removed,
        "excluded": changes.excluded,
        "unchanged": changes.unchanged,
        "failed": len(changes.failed),
    }
    parts = [f"{count:,} {word}" for word, count in counts.items() if count]
    if changes.names:
        parts.append(f"{many(changes.names, 'other name')} of the same images")
    images = many(searchable, "image") + (f" and {many(changes.parts, 'part')} of them" if changes.parts else "")
    return f"{images} can be searched" + (f" ({', '.join(parts)})" if parts else "")


_WHY_AGAIN = {
    "network": "the encoder's network is another one",
    "decoder": "files are decoded in another way now",
    "embeddings": "embeddings were not kept before",
    "parts": "parts were lacking",
}


def print_adapted(changes: Changes) -> None:
    """Say what was encoded again, and to what the codes were fitted."""
    for why, count in changes.again.items():
        click.echo(f"{many(count, 'image')} encoded again: {_WHY_AGAIN[why]}")
    if changes.adapted is not None and changes.adapted.refitted:
        click.echo(f"codes fitted to {many(changes.adapted.images, 'image')}")


_KINDS_IN_WORDS = {
    "camera RAW": "camera RAW file",
    "Photoshop": "Photoshop file",
    "SVG": "SVG drawing",
    "other image": "image of another format",
    "sidecar": "sidecar file",
    "video": "video",
    "film of a live photograph": "film of a live photograph",
    "other": "other file",
}
_MANY_IN_WORDS = {"other image": "images of other formats", "film of a live photograph": "films of live photographs"}


def print_passed_over(changes: Changes) -> None:
    """Say what the folder holds that is not read."""
    if changes.passed_over:
        click.echo(f"not read: {in_kinds(changes.passed_over)}")
    if changes.links:
        links = f"{changes.links:,} links to folders were" if changes.links > 1 else "1 link to a folder was"
        click.echo(f"{links} not followed")


def in_kinds(passed_over: dict[str, int]) -> str:
    """Return counts of files by kind as a list in words."""
    return ", ".join(
        f"{count:,} {_MANY_IN_WORDS[kind]}"
        if count != 1 and kind in _MANY_IN_WORDS
        else many(count, _KINDS_IN_WORDS[kind])
        for kind, count in passed_over.items()
    )
