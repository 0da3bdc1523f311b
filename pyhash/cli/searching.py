"""The command ``pyhash search``, and what ``demo`` shares with it."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import ImageError, PyhashError
from ..gallery import Gallery, Match, SearchOptions
from ..images import Box, Part
from ..pages import Other, Row, check_target, write_sheet
from ..support import many, printable
from .errors import Exit
from .options import (
    NumbersType,
    folder_argument,
    gallery_encoder_options,
    gallery_option,
    html_option,
    json_option,
    overwrite_option,
)
from .output import (
    in_words,
    name_of,
    print_json,
    print_skipped,
    print_table,
    print_wrote,
    skipped_as_json,
    warn_of_away,
    warn_of_waiting,
)

if TYPE_CHECKING:
    from ..encoder import Encoder


@click.command("search", short_help="Find the images in FOLDER that are most like each IMAGE.")
@folder_argument
@click.argument("queries", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(readable=False))
@click.option("-k", type=click.IntRange(min=1), default=12, show_default=True, help="How many images to find.")
@click.option("--level", metavar="NAME", help="Compare one level only: coarse, the same kind; fine, the same picture.")
@click.option(
    "--weights",
    type=NumbersType(),
    metavar="LEVEL=N,...",
    help="How much each level counts, such as coarse=3,fine=1.  [default: all alike]",
)
@click.option(
    "--cascade",
    type=NumbersType(whole=True),
    metavar="LEVEL=N",
    help="Consider only the N best at a level, such as coarse=1000.",
)
@click.option("--exclude-self", is_flag=True, help="Leave an image out of its own answer.")
@click.option("--together", is_flag=True, help="Search once, with all IMAGEs as examples of one thing.")
@click.option(
    "--without",
    multiple=True,
    metavar="IMAGE",
    type=click.Path(readable=False),
    help="With --together: an example of what is not wanted; may be given several times.",
)
@click.option(
    "--in",
    "where",
    multiple=True,
    metavar="SUBFOLDER",
    type=click.Path(readable=False),
    help="Search only what lies under this folder of FOLDER; may be given several times.",
)
@click.option("--distinct", is_flag=True, help="Show one image of each group of copies, and how many stand behind it.")
@click.option("--no-rescore", is_flag=True, help="Order by codes alone, not by embeddings.")
@click.option("-f", "--paths", is_flag=True, help="Print the paths of the images found alone, a line each, for pipes.")
@click.option("-0", "--null", is_flag=True, help="As --paths, with a NUL in place of each line's end.")
@html_option
@overwrite_option
@gallery_option
@functools.partial(gallery_encoder_options, boxes=True)
@json_option
def search_command(
    folder: str,
    queries: tuple[str, ...],
    k: int,
    level: str | None,
    weights: dict[str, float] | None,
    cascade: dict[str, int] | None,
    exclude_self: bool,
    together: bool,
    without: tuple[str, ...],
    where: tuple[str, ...],
    crop: Box | None,
    distinct: bool,
    no_rescore: bool,
    paths: bool,
    null: bool,
    html: str | None,
    overwrite: bool,
    file: str | None,
    load_encoder: Callable[[], Encoder | None],
    as_json: bool,
) -> int:
    """Find the images in FOLDER that are most like each IMAGE.

    FOLDER must have been indexed. An IMAGE may lie anywhere; write ./-a.jpg for one whose name begins with a dash. The
    images whose codes are nearest are put in order by similarity, which is 1 for the same picture; the distance is in
    how many bits the codes differ, a bit counted as often as makes the levels count alike, or as --weights says.

    \b
    Examples:
      pyhash search ~/Pictures holiday.jpg
      pyhash search ~/Pictures a.jpg b.png -k 30 --html similar.html
      pyhash search ~/Pictures shoe.jpg --level coarse --json
      pyhash search ~/Pictures shoe.jpg --in ~/Pictures/2024
      pyhash search photos.sqlite shoe.jpg
      pyhash search ~/Pictures shoe.jpg --weights coarse=3,fine=1
      pyhash search ~/Pictures street.jpg --crop 120,40,360,300
      pyhash search ~/Pictures shoe.jpg --distinct
      pyhash search ~/Pictures a.jpg b.jpg --together --without c.jpg
      pyhash search ~/Pictures shoe.jpg -k 50 -0 | xargs -0 cp -t found/
    """
    if html is not None:
        check_target(html, overwrite=overwrite)
    if cascade is not None and len(cascade) != 1:
        raise click.UsageError(f"--cascade must be of one level, such as coarse=1000, got {', '.join(cascade)}")
    if without and not together:
        raise click.UsageError("--without needs --together: examples of one thing, and of what is not wanted")
    if as_json and (paths or null):
        raise click.UsageError("--json cannot be given with --paths or --null")
    options = SearchOptions(
        level=level,
        weights=weights,
        cascade=next(iter(cascade.items())) if cascade else None,
        rescore=not no_rescore,
        where=[*where] or None,
        crop=crop,
        distinct=distinct,
    )
    with Gallery(folder, load_encoder(), file, create=False) as gallery:
        if together:
            results, failed = search_together(gallery, queries, without, k, options, exclude_self=exclude_self)
        else:
            results, failed = search(gallery, queries, k, options, exclude_self=exclude_self)
        stats, away = gallery.stats(), warn_of_away(gallery)
        if as_json:
            shown = results_as_json(results)
            shown |= {"waiting": stats.waiting + stats.lacking, "away": away, "failed": skipped_as_json(failed)}
            print_json(shown)
        elif paths or null:
            print_paths(results, b"\0" if null else b"\n")
        else:
            print_results(results)
        warn_of_waiting(name_of(gallery), stats.waiting, stats.lacking)
        print_skipped(failed)
        if html is not None:
            write_search_sheet(html, gallery, results, k, options, overwrite=overwrite)
            print_wrote(html)
    return Exit.UNREADABLE if failed or stats.waiting or stats.lacking else Exit.DONE


class Result(NamedTuple):
    """What was found for an image, or for several together."""

    queries: list[str]
    matches: list[Match]
    together: bool = False
    without: Sequence[str] = ()

    @property
    def by_similarity(self) -> bool:
        """Whether embeddings decided the order."""
        return any(match.similarity is not None for match in self.matches)


def search(
    gallery: Gallery,
    queries: Sequence[str],
    k: int,
    options: SearchOptions | None = None,
    *,
    exclude_self: bool = False,
) -> tuple[list[Result], list[ImageError]]:
    """Search with every image that can be read; also return those that cannot."""
    with _asked(gallery, options) as (chosen, failed):
        exclude = [gallery.id_of(query) for query in queries] if exclude_self else None
        matches = gallery.search([*queries], k, exclude=exclude, **chosen)
    lost = {error.index for error in failed}
    readable = [query for place, query in enumerate(queries) if place not in lost]
    return [Result([query], found) for query, found in zip(readable, matches, strict=True)], failed


def search_together(
    gallery: Gallery,
    queries: Sequence[str],
    without: Sequence[str],
    k: int,
    options: SearchOptions | None = None,
    *,
    exclude_self: bool = False,
) -> tuple[list[Result], list[ImageError]]:
    """Search once with all images that can be read; also return those that cannot."""
    with _asked(gallery, options) as (chosen, failed):
        exclude = [query for query in queries if gallery.id_of(query) is not None] if exclude_self else None
        matches = gallery.search([*queries], k, exclude=exclude, together=True, without=[*without], **chosen)
    lost = {error.path for error in failed}
    readable = [query for query in queries if query not in lost]
    unwanted = [query for query in without if query not in lost]
    return [Result(readable, matches, together=True, without=unwanted)] if readable else [], failed


@contextmanager
def _asked(gallery: Gallery, options: SearchOptions | None) -> Iterator[tuple[SearchOptions, list[ImageError]]]:
    """Check the level; gives the options with which images that cannot be read are gathered, and where they are."""
    failed: list[ImageError] = []
    chosen = SearchOptions(**(options or SearchOptions()))
    chosen["on_error"] = failed.append
    level, levels = chosen.get("level"), gallery.levels
    if level is not None and level not in levels:
        raise click.UsageError(f"--level must be one of {', '.join(levels)}, got {level!r}")
    try:
        yield chosen, failed
    except PyhashError:
        raise
    except (TypeError, ValueError) as error:  # levels, weights and cascade that do not fit together
        raise click.UsageError(str(error)) from error


def results_as_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return the results as JSON shows them."""

    def shown(result: Result) -> dict[str, Any]:
        answer: dict[str, Any] = {"query": result.queries if result.together else result.queries[0]}
        if result.together:
            answer["without"] = [*result.without]
        answer["ranked_by"] = "similarity" if result.by_similarity else "distance"
        return answer | {"matches": [*map(match_as_json, result.matches)]}

    return {"results": [shown(result) for result in results]}


def match_as_json(match: Match) -> dict[str, Any]:
    """Return a match as JSON shows it; its part where that is not the whole, its copies where they were counted."""
    shown = match._asdict()
    part, copies = shown.pop("part"), shown.pop("copies")
    shown |= {} if part is None else {"part": part._asdict()}
    return shown if copies is None else shown | {"copies": copies}


def print_results(results: Sequence[Result]) -> None:
    """Print each query with a table of its matches."""
    for result in results:
        click.secho(" + ".join(map(printable, result.queries)), bold=True)
        print_matches(result.matches)


def print_paths(results: Sequence[Result], end: bytes) -> None:
    """Print the paths of all matches as they are, which only bytes can say."""
    for result in results:
        for match in result.matches:
            click.echo(os.fsencode(match.path) + end, nl=False)


def print_matches(matches: Sequence[Match]) -> None:
    """Print a table of matches."""
    if not matches:
        click.secho("no matches", dim=True)
    else:
        columns: list[tuple[str, list[str]]] = [
            ("distance", [str(match.distance) for match in matches]),
            ("image", [match.path for match in matches]),
        ]
        if any(match.similarity is not None for match in matches):
            columns.insert(0, ("similarity", [f"{match.similarity:.3f}" for match in matches]))
        if any(match.copies is not None for match in matches):
            columns.insert(-1, ("copies", [str(match.copies or "") for match in matches]))
        if any(match.part is not None for match in matches):
            columns.insert(-1, ("part", ["" if match.part is None else in_short(match.part) for match in matches]))
        names, cells = zip(*columns, strict=True)
        print_table([*zip(*cells, strict=True)], names, right=range(len(names) - 1 - ("part" in names)))
    click.echo()


def in_short(part: Part) -> str:
    """Return a part as a line says it: what it is called, and where it lies."""
    box = "" if part.box is None else " " + ",".join(map(str, part.box))
    return (part.name or part.kind) + box


def write_search_sheet(
    path: str | Path,
    gallery: Gallery,
    results: Sequence[Result],
    k: int,
    options: SearchOptions | None = None,
    *,
    more: Sequence[tuple[str, Sequence[Result]]] = (),
    title: str = "",
    overwrite: bool = False,
) -> None:
    """Write results as an HTML sheet; `more` are titles, and other results of the same queries to stand beside."""
    options = options or SearchOptions()
    levels, stats = gallery.levels, gallery.stats()
    level, weights = options.get("level"), options.get("weights") or dict.fromkeys(levels, 1)
    compared = {level: 1.0} if level else {name: weight for name, weight in weights.items() if weight}
    name = level or ("all" if len(set(weights.values())) == 1 else in_words(weights))
    by_similarity = any(result.by_similarity for result in results)
    rows = [
        Row(
            result.queries,
            _others(result),
            result.without,
            title,
            [(heading, _others(beside[place])) for heading, beside in more],
            options.get("crop"),
        )
        for place, result in enumerate(results)
    ]
    write_sheet(
        path,
        rows,
        title="Similar images",
        label="Query",
        facts={
            "Gallery": ", ".join(gallery.folders),
            "Images": f"{stats.images:,}" + (f" ({stats.waiting:,} more wait)" if stats.waiting else ""),
            "Level": f"{name} ({many(sum(levels[part] for part in compared), 'bit')})",
            "Nearest": str(k),
            "Encoder": str(stats.encoder),
        },
        folder=gallery.folder,
        small=gallery.thumbnail,
        far=sum(weight * levels[part] for part, weight in compared.items()) / 2,
        note=(
            "The number on an image is its similarity to the query: 1 is the same picture, 0 has nothing in common. "
            "Below it, the distance: in how many bits their codes differ."
            if by_similarity
            else "The number on an image is its distance to the query: in how many bits their codes differ."
        ),
        nothing="None of the images searched with could be read.",
        overwrite=overwrite,
    )


def _others(result: Result) -> list[Other]:
    return [
        Other(match.path, match.distance, match.similarity, match.part, match.copies or 0) for match in result.matches
    ]
