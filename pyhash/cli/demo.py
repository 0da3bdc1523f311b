"""The command ``pyhash demo``."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import GalleryMismatchError
from ..gallery import Gallery, SearchOptions
from ..support import printable
from .errors import Exit, UnreadableImages
from .galleries import summary, update
from .options import json_option, load_encoder
from .output import print_json, print_skipped
from .photographs import copy_photographs
from .searching import print_results, results_as_json, search, write_search_sheet

if TYPE_CHECKING:
    from ..encoder import Encoder


@click.command("demo", short_help="Try it: index and search a few images, offline.")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@click.option(
    "--out",
    "target",
    type=click.Path(file_okay=False),
    default="pyhash-demo",
    show_default=True,
    help="Where to put everything the demo makes.",
)
@json_option
def demo_command(folder: str | None, target: str, as_json: bool) -> int:
    """Index and search a few photographs and show the result, offline.

    Without FOLDER it uses 120 small photographs of clothes that come with pyhash, and three more to search with. With
    FOLDER it uses your images, takes three of them as examples, and writes nothing into FOLDER.

    \b
    Examples:
      pyhash demo
      pyhash demo ~/Pictures --out try
    """
    directory = Path(target)
    directory.mkdir(parents=True, exist_ok=True)
    if folder is None:
        folder = os.fspath(directory / "photographs")
        queries = [os.fspath(path) for path in copy_photographs(folder, directory / "queries")]
        click.echo(f"copied photographs of clothes to {printable(folder)}", err=as_json)
    else:
        queries = []
    encoder = load_encoder()
    with _demo_gallery(folder, encoder, directory / "gallery.sqlite") as gallery:
        changes = update(gallery)
        click.echo(summary(changes, len(gallery)), err=as_json)
        if not len(gallery):
            print_skipped(changes.failed)
            raise UnreadableImages(f"no image of {folder} can be searched")
        own = not queries
        if own:
            images = [*gallery]
            queries = [images[n * len(images) // 3] for n in range(min(3, len(images)))]
        results, failed = search(gallery, queries, 12, exclude_self=own)
        sheet = directory / "search.html"
        if (gallery.stats().made_of or {}).get("coarse") == "neighbourhood":
            kinds, _ = search(gallery, queries, 6, SearchOptions(level="coarse"), exclude_self=own)
            pictures, _ = search(gallery, queries, 6, SearchOptions(level="fine"), exclude_self=own)
            beside = [("The same picture (level fine)", pictures)]
            write_search_sheet(sheet, gallery, kinds, 6, more=beside, title="The same kind (level coarse)")
        else:
            write_search_sheet(sheet, gallery, results, 12)
    if as_json:
        print_json(results_as_json(results) | {"html": os.fspath(sheet)})
    else:
        click.echo()
        print_results([result._replace(matches=result.matches[:5]) for result in results])
        click.echo(f"As images, for your browser: {printable(os.fspath(sheet))}")
        if not own:
            click.echo("With your own: pyhash index FOLDER, then pyhash search FOLDER IMAGE")
    print_skipped([*changes.failed, *failed])
    return Exit.DONE


def _demo_gallery(folder: str, encoder: Encoder, file: Path) -> Gallery:
    """Open the demo's own gallery; one that an earlier version left is no reason to refuse."""
    try:
        return Gallery(folder, encoder, file)
    except GalleryMismatchError:
        return Gallery(folder, encoder, file, rebuild=True)
