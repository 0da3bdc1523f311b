"""The command ``pyhash dedupe``."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

from collections.abc import Sequence

import click

from ..copies import (
    Copy,
    Duplicates,
    beyond_one_folder,
    choices,
    holds_choices,
    plan_as_json,
    read_choices,
    read_plan,
)
from ..errors import PyhashError
from ..gallery import Gallery
from ..pages import check_target, write_review
from ..support import printable
from .archives import Archive, ask_for, opened_archive, overlaps, overlaps_as_json, print_overlaps
from .copies import groups_as_json, of_level, print_csv, print_group_paths, print_groups, print_uncompared
from .errors import Exit
from .options import FolderType, gallery_option, html_option, json_option, overwrite_option
from .output import print_json, print_wrote, progress_bar, warn_of_waiting
from .planning import (
    Wanted,
    act,
    apply_plan,
    check_new,
    outcome_as_json,
    plan_options,
    print_left,
    print_outcome,
    undo_all,
)


@click.command("dedupe", short_help="Find copies of images in FOLDER, and do with them what you say.")
@click.argument("folder", required=False, type=FolderType())
@click.option(
    "--against",
    metavar="ARCHIVE",
    type=FolderType(),
    help="Find in FOLDER copies of the images of ARCHIVE, and nothing else: another indexed folder, which is never "
    "touched, or one inside FOLDER.",
)
@click.option(
    "--is",
    "asked",
    multiple=True,
    metavar="IMAGE",
    type=click.Path(readable=False),
    help="Say whether FOLDER has copies of this image, and do no more; may be given several times.",
)
@click.option("--turned", is_flag=True, help="Find those that were mirrored or turned, too.")
@click.option("--cropped", is_flag=True, help="Find parts cut out of an image, too, of a fifth of it or more.")
@click.option("--similar", is_flag=True, help="Add groups of images that are alike, and no copies.")
@click.option(
    "--not-duplicates",
    nargs=2,
    multiple=True,
    metavar="A B",
    type=click.Path(),
    help="Remember that these two images are no duplicates, and do no more.",
)
@click.option(
    "--maybe-duplicates",
    nargs=2,
    multiple=True,
    metavar="A B",
    type=click.Path(),
    help="Take that back; without it --json lists what is remembered.",
)
@click.option("--across-folders", is_flag=True, help="Leave out groups that lie within one folder.")
@plan_options
@click.option(
    "--apply",
    "plan_to_apply",
    metavar="PLAN",
    type=click.Path(dir_okay=False),
    help="Carry out a plan, of --plan or of the sheet; or with FOLDER what was chosen on the page of its service.",
)
@click.option("--undo", metavar="FILE", type=click.Path(dir_okay=False), help="Bring back what an undo file tells.")
@click.option("--fail-if-found", is_flag=True, help="Exit with 7 when there are duplicates.")
@click.option(
    "-f", "--paths", is_flag=True, help="Print paths alone, a line each, the best first, and a line between groups."
)
@click.option("-0", "--null", is_flag=True, help="As --paths, with a NUL in place of each line's end.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a line for each image, for spreadsheets.")
@html_option
@overwrite_option
@gallery_option
@json_option
def dedupe_command(
    folder: str | None,
    against: str | None,
    asked: tuple[str, ...],
    turned: bool,
    cropped: bool,
    similar: bool,
    not_duplicates: tuple[tuple[str, str], ...],
    maybe_duplicates: tuple[tuple[str, str], ...],
    across_folders: bool,
    wanted: Wanted,
    plan_to_apply: str | None,
    undo: str | None,
    fail_if_found: bool,
    paths: bool,
    null: bool,
    as_csv: bool,
    html: str | None,
    overwrite: bool,
    file: str | None,
    as_json: bool,
) -> int:
    """Find copies of images in FOLDER, which must have been indexed, and do with them what you say.

    Nothing is touched without --move-to, --trash or --hardlink. With one of them one image of each group is kept, as
    --keep and its kin say; the others are looked at again, and left where something has changed since. What was done is
    written to an undo file before, and --undo brings it back. What is only similar is left: say on the sheet (--html)
    what becomes of it, and --apply its plan.

    \b
    Examples:
      pyhash dedupe ~/Pictures
      pyhash dedupe ~/Pictures --html duplicates.html
      pyhash dedupe ~/Pictures --is new.jpg
      pyhash dedupe ~/Camera --against ~/Pictures --move-to ~/Camera-copies
      pyhash dedupe train --against test
      pyhash dedupe ~/Pictures --keep-in ~/Pictures/albums --move-to ~/copies --dry-run
      pyhash dedupe ~/Pictures --keep-in ~/Pictures/albums --move-to ~/copies
      pyhash dedupe ~/Pictures --trash --reference ~/Pictures/originals
      pyhash dedupe ~/Pictures --hardlink
      pyhash dedupe --undo undo.jsonl
      pyhash dedupe ~/Pictures --not-duplicates one.jpg other.jpg
      pyhash dedupe --apply plan.json --trash
      pyhash dedupe ~/Pictures --apply choices.json --trash
      pyhash dedupe ~/Pictures -0 | xargs -0 ls -l
    """
    _check_one_answer({"--json": as_json, "--csv": as_csv, "--paths or --null": paths or null})
    if undo is not None:
        _check_alone("--undo", folder, wanted.acts or plan_to_apply is not None)
        return undo_all(undo, as_json=as_json)
    check_new(wanted)
    if plan_to_apply is not None:
        if folder is not None and holds_choices(plan_to_apply):
            _check_alone("--apply", None, wanted.plan_file is not None)
            with Gallery(folder, file=file, create=False) as gallery:
                chosen = read_choices(plan_to_apply, gallery.folders)
            return apply_plan(plan_to_apply, chosen, wanted, as_json=as_json)
        _check_alone("--apply", folder, wanted.plan_file is not None)
        return apply_plan(plan_to_apply, read_plan(plan_to_apply), wanted, as_json=as_json)
    if folder is None:
        raise click.UsageError("Missing argument 'FOLDER'.")
    if html is not None:
        check_target(html, overwrite=overwrite)
    with Gallery(folder, file=file, create=False) as gallery:
        folders = gallery.folders
        if not_duplicates or maybe_duplicates:
            return _judge(gallery, not_duplicates, maybe_duplicates, as_json=as_json)
        wanted.check(folders)
        if asked:
            _check_asked(against, html, wanted, as_csv=as_csv)
            return ask_for(
                gallery,
                asked,
                turned=turned,
                cropped=cropped,
                paths=paths,
                null=null,
                as_json=as_json,
                fail_if_found=fail_if_found,
            )
        with opened_archive(against, gallery) as archive:
            found = _find(gallery, archive, turned=turned, cropped=cropped, similar=similar)
            apart = gallery.told_apart()
            if across_folders:
                found = found._replace(groups=tuple(beyond_one_folder(found.groups)))
            counted = None if archive is None else overlaps(found, gallery, archive)
            if html is not None:
                _write_review(html, gallery, archive, found, wanted)
    outcome = act(wanted.plan(found.groups, folders), wanted) if wanted.acts else None
    if as_json:
        shown = groups_as_json(found)
        if counted is not None:
            shown["overlap"] = overlaps_as_json(counted)
        shown["not_duplicates"] = [{"one": one, "other": other} for one, other in apart]
        if outcome is not None:
            shown["plan"] = plan_as_json(outcome.plan)
            shown |= outcome_as_json(outcome, wanted)
        print_json(shown)
    elif as_csv:
        print_csv(found)
    elif paths or null:
        print_group_paths(found.groups, null=null)
    elif outcome is not None:
        print_outcome(outcome, wanted)
    else:
        print_groups(found)
        if counted is not None:
            print_overlaps(counted, folder, str(against))
    if html is not None:
        print_wrote(html)
    print_uncompared(found)
    if outcome is not None:
        print_left(outcome)
    warn_of_waiting(folder, found.waiting)
    if fail_if_found and of_level(found.groups, "duplicates"):
        return Exit.FOUND
    if found.uncompared or found.waiting:
        return Exit.UNREADABLE
    return Exit.DONE if outcome is None else outcome.code


def _check_one_answer(forms: dict[str, bool]) -> None:
    given = [name for name, wanted in forms.items() if wanted]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} cannot be given with {given[1]}")


def _check_alone(option: str, folder: str | None, others: bool) -> None:
    if folder is not None or others:
        raise click.UsageError(f"{option} needs neither FOLDER nor what would make another plan")


def _judge(
    gallery: Gallery,
    different: Sequence[tuple[str, str]],
    maybe: Sequence[tuple[str, str]],
    *,
    as_json: bool,
) -> Exit:
    """Remember what is no duplicate, or take it back."""
    for pairs, undo in ((different, False), (maybe, True)):
        for one, other in pairs:
            try:
                gallery.not_duplicates(one, other, undo=undo)
            except PyhashError:
                raise
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            if not as_json:
                verdict = "may be duplicates again" if undo else "are no duplicates: remembered"
                click.echo(f"{printable(one)} and {printable(other)} {verdict}")
    if as_json:
        told = [{"one": one, "other": other} for one, other in gallery.told_apart()]
        print_json({"not_duplicates": told})
    return Exit.DONE


def _check_asked(against: str | None, html: str | None, wanted: Wanted, *, as_csv: bool) -> None:
    given = {"--against": against is not None, "--html": html is not None, "--csv": as_csv}
    for option in (name for name, there in given.items() if there):
        raise click.UsageError(f"--is cannot be given with {option}")
    if wanted.acts:
        raise click.UsageError("--is does nothing with images: leave out what would make a plan")


def _find(gallery: Gallery, archive: Archive | None, *, turned: bool, cropped: bool, similar: bool) -> Duplicates:
    with progress_bar("looking for candidates", "comparing images") as progress:
        return gallery.duplicates(
            turned=turned,
            cropped=cropped,
            similar=similar,
            against=None if archive is None else archive.target,
            progress=progress,
        )


def _write_review(html: str, gallery: Gallery, archive: Archive | None, found: Duplicates, wanted: Wanted) -> None:
    folders = gallery.folders

    def thumbnail(copy: Copy) -> bytes | None:
        if copy.id is None:
            return None if archive is None else archive.thumbnail(copy)
        return gallery.thumbnail(copy.id)

    extra = sum(len(group.images) - 1 for group in of_level(found.groups, "duplicates"))
    write_review(
        html,
        [*choices(found.groups, folders, keep=wanted.keep, reference=wanted.reference)],
        wanted.plan([], folders),
        folders=folders,
        facts={
            "Folders": ", ".join(folders),
            "Images": f"{found.images:,}" + (f" ({found.waiting:,} more wait)" if found.waiting else ""),
            "Beyond the first of each group": f"{extra:,}",
        }
        | ({"Not compared": f"{len(found.uncompared):,}"} if found.uncompared else {}),
        thumbnails=thumbnail,
        overwrite=wanted.overwrite,
    )
