"""The commands ``pyhash index``, ``search``, ``dedupe`` and ``info``, and what ``demo`` shares with them."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from .. import __version__, backend
from ..errors import ImageError
from ..gallery import Changes, Gallery, Match, default_radius
from ..pages import Row, check_target, write_sheet
from ..support import machine, many, printable
from .errors import EncoderFailed, Exit
from .options import (
    encoder_options,
    folder_argument,
    gallery_encoder_options,
    gallery_option,
    html_option,
    json_option,
    overwrite_option,
)
from .output import print_facts, print_json, print_skipped, print_table, print_wrote, progress_bar, skipped_as_json

if TYPE_CHECKING:
    from ..encoder import Encoder


@click.command("index", short_help="Encode the images in FOLDER, or bring its gallery up to date.")
@folder_argument
@gallery_option
@gallery_encoder_options
@click.option("--rebuild", is_flag=True, help="Encode every image again, also when another encoder made the gallery.")
@click.option("--strict", is_flag=True, help="Exit with 1 when any image could not be read.")
@json_option
def index_command(
    folder: str,
    file: str | None,
    load_encoder: Callable[[], Encoder | None],
    rebuild: bool,
    strict: bool,
    as_json: bool,
) -> int:
    """Encode the images in FOLDER and its subfolders, or bring its gallery up to date.

    Run it again whenever you like: only new and changed images are encoded, and those that have gone are
    dropped. It can be interrupted at any moment and goes on where it stopped. Images that cannot be read
    are listed and skipped, which is not an error unless you say --strict (or none at all can be read).

    \b
    Examples:
      pyhash index ~/Pictures
      pyhash index /mnt/read-only --gallery ~/photos.sqlite
      pyhash index ~/Pictures --encoder model.onnx --rebuild
    """
    with Gallery(folder, load_encoder(), file, rebuild=rebuild) as gallery:
        changes = update(gallery)
        searchable = len(gallery)
        if as_json:
            print_json(
                {
                    "folder": folder,
                    "gallery": os.fspath(gallery.file),
                    "images": searchable,
                    "added": changes.added,
                    "changed": changes.changed,
                    "removed": changes.removed,
                    "unchanged": changes.unchanged,
                    "failed": skipped_as_json(changes.failed),
                }
            )
        else:
            click.echo(summary(changes, searchable))
            if not searchable and not changes.failed:
                click.echo(f"no images found in {printable(folder)}", err=True)
    print_skipped(changes.failed)
    return Exit.UNREADABLE if changes.failed and (strict or not searchable) else Exit.DONE


@click.command("search", short_help="Find the images in FOLDER that are most like each IMAGE.")
@folder_argument
@click.argument("queries", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(readable=False))
@click.option("-k", type=click.IntRange(min=1), default=12, show_default=True, help="How many images to find.")
@click.option("--level", metavar="NAME", help="Compare one level of the codes only, such as coarse or fine.")
@click.option("--exclude-self", is_flag=True, help="Leave an image out of its own answer.")
@html_option
@overwrite_option
@gallery_option
@gallery_encoder_options
@json_option
def search_command(
    folder: str,
    queries: tuple[str, ...],
    k: int,
    level: str | None,
    exclude_self: bool,
    html: str | None,
    overwrite: bool,
    file: str | None,
    load_encoder: Callable[[], Encoder | None],
    as_json: bool,
) -> int:
    """Find the images in FOLDER that are most like each IMAGE.

    FOLDER must have been indexed. An IMAGE may lie anywhere. The distance is the number of bits in which two
    codes differ: 0 means the same code.

    \b
    Examples:
      pyhash search ~/Pictures holiday.jpg
      pyhash search ~/Pictures a.jpg b.png -k 30 --html similar.html
      pyhash search ~/Pictures shoe.jpg --level coarse --json
    """
    if html is not None:
        check_target(html, overwrite=overwrite)
    with Gallery(folder, load_encoder(), file, create=False) as gallery:
        results, failed = search(gallery, queries, k, level=level, exclude_self=exclude_self)
        if as_json:
            print_json(results_as_json(results))
        else:
            print_results(results)
        print_skipped(failed)
        if html is not None:
            write_search_sheet(html, gallery, results, k, level=level, overwrite=overwrite)
            print_wrote(html)
    return Exit.UNREADABLE if failed else Exit.DONE


@click.command("dedupe", short_help="List groups of nearly identical images in FOLDER. Nothing is deleted.")
@folder_argument
@click.option(
    "--radius",
    type=click.IntRange(min=0),
    help="Bits in which two codes may differ.  [default: a tenth of a code's bits]",
)
@click.option("--codes-only", is_flag=True, help="Do not compare the images themselves; lists more, faster.")
@html_option
@overwrite_option
@gallery_option
@json_option
def dedupe_command(
    folder: str,
    radius: int | None,
    codes_only: bool,
    html: str | None,
    overwrite: bool,
    file: str | None,
    as_json: bool,
) -> int:
    """List groups of nearly identical images in FOLDER. Nothing is deleted.

    FOLDER must have been indexed. Images whose codes differ in at most --radius bits are compared at a small
    size, and those that look the same are grouped: copies that were recompressed or resized, not those that were
    turned, cropped much, or made smaller than what the encoder sees (224 pixels for the built-in one). With
    --codes-only alike codes are enough, which also groups different images of alike things.

    \b
    Examples:
      pyhash dedupe ~/Pictures
      pyhash dedupe ~/Pictures --radius 0 --json
      pyhash dedupe ~/Pictures --radius 32 --html duplicates.html
    """
    if html is not None:
        check_target(html, overwrite=overwrite)
    with Gallery(folder, file=file, create=False) as gallery:
        with progress_bar("comparing codes", "comparing images") as progress:
            groups = gallery.duplicates(radius, check=not codes_only, progress=progress)
        stats = gallery.stats()
    n_bits = sum((stats.levels or {}).values())
    if radius is None:
        radius = default_radius(n_bits)
    if as_json:
        print_json({"radius": radius, "groups": [[match._asdict() for match in group] for group in groups]})
    else:
        for group in groups:
            _print_matches(group)
        extra = sum(len(group) - 1 for group in groups)
        click.echo(
            f"{many(len(groups), 'group')}, {many(extra, 'image')} beyond the first of each"
            if groups
            else f"no duplicates among {many(stats.images, 'image')}"
        )
    if html is not None:
        write_sheet(
            html,
            [Row(group[0].path, [(match.path, match.distance) for match in group[1:]]) for group in groups],
            title="Nearly identical images",
            label="First",
            facts={
                "Gallery": folder,
                "Images": f"{stats.images:,}",
                "Groups": f"{len(groups):,}",
                "Radius": many(radius, "bit"),
            },
            folder=folder,
            far=n_bits / 2,  # random codes differ in half of their bits
            note="The number on an image is its distance to the first of its group, in bits.",
            nothing="No two images are that similar.",
            overwrite=overwrite,
        )
        print_wrote(html)
    return Exit.DONE


@click.command("info", short_help="Show what pyhash runs on, and what the gallery of FOLDER holds.")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@gallery_option
@encoder_options
@json_option
def info_command(
    folder: str | None,
    file: str | None,
    load_encoder: Callable[[], Encoder],
    as_json: bool,
) -> int:
    """Show what pyhash runs on: version, search kernel, CPU, encoder, and the gallery of FOLDER.

    \b
    Examples:
      pyhash info
      pyhash info ~/Pictures --json
    """
    try:
        kernel = backend.kernel()
    except ImportError:  # neither compiled nor Numba: that is what this command is there to tell
        kernel = None
    facts: dict[str, Any] = {
        "version": __version__,
        "kernel": kernel,
        "kernels": backend.kernels(),
        "native": backend.why_no_native() is None,
        "why_no_native": backend.why_no_native(),
        "cpu_features": backend.cpu_features(),
        "threads": backend.threads() or machine.cpus(),
    }
    try:
        encoder = load_encoder()
    except (ImportError, EncoderFailed) as error:
        facts["encoder"] = {"error": str(error)}
    else:
        facts["encoder"] = {
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "bits": encoder.bits,
            "levels": dict(encoder.levels),
        }
    if folder is not None or file is not None:
        with Gallery(folder or os.curdir, file=file, create=False) as gallery:
            facts["gallery"] = dataclasses.asdict(gallery.stats())
    if as_json:
        print_json(facts)
        return Exit.DONE
    lines: dict[str, Any] = {
        "version": facts["version"],
        "native code": "yes" if facts["native"] else f"no: {facts['why_no_native']}",
    }
    for name in ("kernel", "kernels", "cpu_features", "threads"):
        lines[name.replace("_", " ")] = facts[name]
    for name in ("encoder", "gallery"):
        lines |= {f"{name} {key}": value for key, value in facts.get(name, {}).items()}
    print_facts(lines)
    return Exit.DONE


def update(gallery: Gallery) -> Changes:
    """Update behind a progress bar."""
    with progress_bar("looking for images", "encoding") as progress:
        return gallery.update(progress=progress)


def summary(changes: Changes, searchable: int) -> str:
    """Return in a line what an update did."""
    counts = {
        "added": changes.added,
        "changed": changes.changed,
        "removed": changes.removed,
        "unchanged": changes.unchanged,
        "failed": len(changes.failed),
    }
    parts = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    return f"{many(searchable, 'image')} can be searched" + (f" ({parts})" if parts else "")


Results = list[tuple[str, list[Match]]]
"""Queries and what was found for each."""


def search(
    gallery: Gallery, queries: Sequence[str], k: int, *, level: str | None = None, exclude_self: bool = False
) -> tuple[Results, list[ImageError]]:
    """Search with every image that can be read; also return those that cannot."""
    levels = gallery.encoder.levels
    if level is not None and level not in levels:
        raise click.UsageError(f"--level must be one of {', '.join(levels)}, got {level!r}")
    readable, codes = [], []
    failed: list[ImageError] = []
    for query, result in gallery.encoder.stream(queries):  # all levels: to load a part of the network costs more
        if isinstance(result, ImageError):
            failed.append(result)
        else:
            readable.append(query)
            codes.append(result)
    if not readable:
        return [], failed
    exclude = [gallery.id_of(query) for query in readable] if exclude_self else None
    matches = gallery.search_codes(np.stack(codes), k, level=level, exclude=exclude)
    return list(zip(readable, matches, strict=True)), failed


def results_as_json(results: Results) -> dict[str, Any]:
    """Return the results as JSON shows them."""
    return {"results": [{"query": query, "matches": [m._asdict() for m in matches]} for query, matches in results]}


def print_results(results: Results) -> None:
    """Print each query with a table of its matches."""
    for query, matches in results:
        click.secho(printable(query), bold=True)
        _print_matches(matches)


def _print_matches(matches: Sequence[Match]) -> None:
    if matches:
        print_table([[str(match.distance), match.path] for match in matches], ["distance", "image"], right=[0])
    else:
        click.secho("no matches", dim=True)
    click.echo()


def write_search_sheet(
    path: str | Path,
    gallery: Gallery,
    results: Results,
    k: int,
    *,
    level: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write results as an HTML sheet."""
    levels = dict(gallery.encoder.levels)
    n_bits = levels[level] if level else gallery.encoder.bits
    write_sheet(
        path,
        [Row(query, [(match.path, match.distance) for match in matches]) for query, matches in results],
        title="Similar images",
        label="Query",
        facts={
            "Gallery": gallery.folder,
            "Images": f"{len(gallery):,}",
            "Level": f"{level or 'all'} ({many(n_bits, 'bit')})",
            "Nearest": str(k),
            "Encoder": gallery.encoder.name,
        },
        folder=gallery.folder,
        far=n_bits / 2,  # random codes differ in half of their bits
        note="The number on an image is its distance to the query: in how many bits their codes differ.",
        nothing="None of the images searched with could be read.",
        overwrite=overwrite,
    )
