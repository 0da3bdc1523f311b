"""The command ``pyhash demo``."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from ..errors import GalleryMismatchError
from ..gallery import Gallery
from ..pages import printable
from .main import (
    _EXIT_CODES,
    EXIT_PARTIAL,
    _as_json,
    _complain,
    _json_option,
    _load_encoder,
    _report,
    _search,
    _summary,
    _update,
    _write_search_sheet,
    cli,
)
from .output import print_json, print_matches
from .photographs import copy_photographs

if TYPE_CHECKING:
    from ..encoder import Encoder


@cli.command(epilog=_EXIT_CODES, short_help="Try it: index and search a few pictures, offline.")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@click.option(
    "--out",
    "target",
    type=click.Path(file_okay=False),
    default="pyhash-demo",
    show_default=True,
    help="Where to put everything the demo makes.",
)
@_json_option
def demo(folder: str | None, target: str, as_json: bool) -> int:
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
    encoder = _load_encoder()
    with _demo_gallery(folder, encoder, directory / "gallery.sqlite") as gallery:
        changes = _update(gallery)
        click.echo(_summary(changes, len(gallery)), err=as_json)
        if not len(gallery):
            _report(changes.failed)
            return _complain(f"no picture of {folder} can be searched", EXIT_PARTIAL)
        own = not queries
        if own:
            ids = gallery.index.ids
            queries = [gallery.path(int(number)) for number in ids[np.arange(min(3, len(ids))) * len(ids) // 3]]
        results, failed = _search(gallery, queries, 12, None, own)
        sheet = directory / "search.html"
        _write_search_sheet(sheet, gallery, results, 12, None)
    if as_json:
        print_json(_as_json(results) | {"html": os.fspath(sheet)})
    else:
        click.echo()
        print_matches([(query, matches[:5]) for query, matches in results])
        click.echo(f"The twelve nearest as pictures, for your browser: {printable(os.fspath(sheet))}")
        if not own:
            click.echo("With your own: pyhash index FOLDER, then pyhash search FOLDER PICTURE")
    _report([*changes.failed, *failed])
    return 0


def _demo_gallery(folder: str, encoder: Encoder, file: Path) -> Gallery:
    """Open the demo's own gallery; one that an earlier version left is no reason to refuse."""
    try:
        return Gallery.open(folder, encoder, file)
    except GalleryMismatchError:
        return Gallery.open(folder, encoder, file, rebuild=True)
