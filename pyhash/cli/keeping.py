"""The commands ``pyhash check``, ``backup`` and ``forget``: a gallery whole, copied, and without what is not wanted."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import PyhashError
from ..gallery import Checked, Damage, Gallery, default_file, recover
from ..support import many, printable, size
from .errors import Exit
from .options import FolderType, folder_argument, gallery_encoder_options, gallery_option, json_option, overwrite_option
from .output import print_json, print_wrote, progress_bar

if TYPE_CHECKING:
    from ..encoder import Encoder


@click.command("check", short_help="Look whether FOLDER's gallery is whole, and repair it.")
@click.argument("folder", type=FolderType(any_file=True))
@click.option("--repair", is_flag=True, help="Make again what is damaged: encode images, find neighbours, fit codes.")
@gallery_option
@gallery_encoder_options
@json_option
def check_command(
    folder: str,
    repair: bool,
    file: str | None,
    load_encoder: Callable[[], Encoder | None],
    as_json: bool,
) -> int:
    """Look whether all that FOLDER's gallery holds is what was put there; exit with 3 when something is damaged.

    Without --repair nothing is written. With it what is damaged is dropped and made again: images are encoded from
    their files, the rest is computed anew. A file that cannot be read any more is kept under another name, and what can
    be read of it goes on in a new one. Exit with 1 when images wait because their files are away.

    \b
    Examples:
      pyhash check ~/Pictures
      pyhash check ~/Pictures --repair
    """
    kept: Path | None = None
    encoder = load_encoder()
    lies_at = Path(file or (folder if os.path.isfile(folder) else default_file(folder)))
    if repair and lies_at.exists():
        kept = recover(lies_at)
    with Gallery(folder, encoder, file, create=False) as gallery:
        with progress_bar("checking", "encoding") as progress:
            checked = gallery.check(repair=repair, progress=progress)
            if kept is not None:
                gallery.update(progress=progress)
        path = os.fspath(gallery.file)
    if kept is not None:
        checked = dataclasses.replace(
            checked,
            damaged=[Damage(path, "it could not be opened"), *checked.damaged],
            repaired=checked.repaired or not checked.damaged,
            kept=os.fspath(kept),
        )
    if as_json:
        print_json({"folder": folder, "gallery": path, **_as_json(checked)})
    else:
        _print_checked(checked, repair)
    if checked.damaged and not checked.repaired:
        return Exit.GALLERY
    return Exit.UNREADABLE if checked.away else Exit.DONE


def _as_json(checked: Checked) -> dict[str, Any]:
    return {**dataclasses.asdict(checked), "damaged": [damage._asdict() for damage in checked.damaged]}


def _print_checked(checked: Checked, repair: bool) -> None:
    for path, what in checked.damaged:
        click.echo(f"{printable(path)}: {printable(what)}")
    for path in checked.away:
        click.echo(f"{printable(path)}: waits, its file is away or cannot be read")
    for note in checked.notes:
        click.echo(printable(note))
    if checked.kept is not None:
        click.echo(f"what could be read is in a new file; the damaged one is {printable(checked.kept)}")
    if checked.traces:
        click.echo("bytes of forgotten images may remain in the file: --repair, or forget them once more")
    counts = ", ".join(f"{count:,} {name}" for name, count in checked.checked.items())
    damaged = f"{len(checked.damaged):,} damaged" if checked.damaged else "all whole"
    repaired = ", repaired" if checked.damaged and checked.repaired else ""
    waiting = f"; {many(checked.waiting, 'image')} to be encoded (`pyhash index`)" if checked.waiting else ""
    click.echo(f"{counts or 'nothing could be read'}: {damaged}{repaired}{waiting}")
    if checked.damaged and not checked.repaired:
        click.echo("not repaired" if repair else "--repair makes it again")


@click.command("backup", short_help="Copy the gallery of FOLDER to FILE, also while it is in use.")
@folder_argument
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False))
@overwrite_option
@gallery_option
@json_option
def backup_command(folder: str, path: str, overwrite: bool, file: str | None, as_json: bool) -> int:
    """Copy the gallery of FOLDER to FILE, as it is at this moment, also while it is searched or indexed.

    Copies made in other ways may lack what was written last. FILE holds what it held, or the whole copy; a gallery
    that is there is replaced. Search it with --gallery FILE.

    \b
    Examples:
      pyhash backup ~/Pictures /mnt/disk/pictures.sqlite
      pyhash search ~/Pictures one.jpg --gallery /mnt/disk/pictures.sqlite
    """
    with Gallery(folder, file=file, create=False) as gallery:
        try:
            with progress_bar("looking at the gallery", "copying") as progress:
                target = gallery.backup(path, overwrite=overwrite, progress=progress)
        except PyhashError:
            raise
        except ValueError as error:  # the gallery itself
            raise click.UsageError(str(error)) from error
        images = len(gallery)
    n_bytes = target.stat().st_size
    if as_json:
        print_json({"folder": folder, "file": os.fspath(target), "images": images, "bytes": n_bytes})
    else:
        click.echo(f"{many(images, 'image')}, {size(n_bytes)}")
        print_wrote(os.fspath(target), quietly=False)
    return Exit.DONE


@click.command("forget", short_help="Drop images from FOLDER's gallery for good. No image is deleted.")
@folder_argument
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--undo", is_flag=True, help="Forget these no longer: the next `pyhash index` encodes them.")
@gallery_option
@json_option
def forget_command(folder: str, paths: tuple[Path, ...], undo: bool, file: str | None, as_json: bool) -> int:
    """Drop images from FOLDER's gallery for good. No image is deleted.

    A PATH is that of an image or of a subfolder with all that lies under it, now or later. What was made of the images
    is overwritten in the gallery's file, which is written anew once, and the next `pyhash index` does not take them in
    again. (Copies that were made before still hold them.) `pyhash info` tells what is forgotten.

    One of several folders of a gallery leaves it with all its images, until `pyhash index` is told of it again.

    \b
    Examples:
      pyhash forget ~/Pictures ~/Pictures/letters IMG_0815.jpg
      pyhash forget ~/Pictures IMG_0815.jpg --undo
      pyhash forget photos.sqlite /mnt/old
    """
    with Gallery(folder, file=file, create=False) as gallery:
        try:
            forgot = gallery.forget(paths, undo=undo)
        except PyhashError:
            raise
        except ValueError as error:  # paths that name nothing
            raise click.UsageError(str(error)) from error
        stats = gallery.stats()
    if as_json:
        print_json({"folder": folder, "paths": forgot.paths, "images": forgot.images, "forgotten": stats.forgotten})
    else:
        verb = "no longer forgotten" if undo else "forgotten"
        for path in forgot.paths:
            click.echo(f"{verb}: {printable(path)}")
        if undo:
            click.echo(f"`pyhash index {printable(folder)}` encodes them")
        else:
            click.echo(f"{many(forgot.images, 'image')} dropped, {many(stats.images, 'image')} can be searched")
    return Exit.DONE
