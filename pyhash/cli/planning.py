"""What ``pyhash dedupe`` does with copies: its options, plans carried out, and undone."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import click

from ..copies import (
    Action,
    By,
    Carried,
    Group,
    Keep,
    Left,
    Plan,
    carry_out,
    make_plan,
    undo,
    write_plan,
    write_script,
)
from ..support import many, printable, require, size
from .errors import Exit
from .output import print_json, progress_bar, warn

_DOES = {"move": "move", "trash": "put into the trash", "hardlink": "make a hard link of"}
_DID = {"move": "moved", "trash": "put into the trash:", "hardlink": "made a hard link of"}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be done with copies, as the options say."""

    keep: Keep
    reference: tuple[str, ...]
    action: Action | None
    move_to: str | None
    script: str | None
    plan_file: str | None
    dry_run: bool
    undo_file: str | None
    overwrite: bool

    @property
    def acts(self) -> bool:
        """Whether anything is to be done, or written down."""
        return any((self.action, self.script, self.plan_file))

    def plan(self, groups: Sequence[Group], folders: Sequence[str]) -> Plan:
        """Return the plan for groups, without an action."""
        return make_plan(groups, folders, keep=self.keep, reference=self.reference)

    def check(self, folders: Sequence[str]) -> None:
        """Say before anything is compared what cannot be done."""
        self.decided(make_plan([], folders))

    def decided(self, plan: Plan) -> Plan:
        """Return a plan with the action that was asked for."""
        if self.action is None:
            return plan
        try:
            return plan.decided(self.action, self.move_to)
        except ValueError as error:
            raise click.UsageError(str(error).replace("move_to", "--move-to", 1)) from error


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is done with copies; the command gets them as `wanted`."""

    @click.option(
        "--keep",
        "by",
        type=click.Choice(get_args(By)),
        default="best",
        show_default=True,
        help="Which image of a group is kept: the best (most pixels, then least compressed, then oldest), the largest "
        "file, the oldest or the newest.",
    )
    @click.option(
        "--keep-in",
        multiple=True,
        metavar="FOLDER",
        type=click.Path(exists=True, file_okay=False),
        help="Rather keep what lies in this folder; of several the first counts most.",
    )
    @click.option(
        "--keep-matching",
        multiple=True,
        metavar="GLOB",
        help="Rather keep what this names, as in .gitignore: '*.NEF' or originals/; of several the first counts most.",
    )
    @click.option(
        "--reference",
        multiple=True,
        metavar="FOLDER",
        type=click.Path(exists=True, file_okay=False),
        help="Touch nothing in this folder; what lies there is kept.",
    )
    @click.option(
        "--move-to",
        metavar="FOLDER",
        type=click.Path(file_okay=False),
        help="Move copies there, with their subfolders; never over another file.",
    )
    @click.option("--trash", is_flag=True, help="Put copies into the trash.")
    @click.option(
        "--hardlink",
        is_flag=True,
        help="Make copies of the same bytes other names of the file that is kept; the others are left.",
    )
    @click.option(
        "--script",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Write a shell script that removes copies, or does what --move-to or --hardlink says, and do nothing.",
    )
    @click.option(
        "--plan",
        "plan_file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Write down what would be done, for --apply, and do nothing.",
    )
    @click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
    @click.option(
        "--undo-file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Where to write down what is done.  [default: a new file in your data folder, which is named]",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        by: By,
        keep_in: tuple[str, ...],
        keep_matching: tuple[str, ...],
        reference: tuple[str, ...],
        move_to: str | None,
        trash: bool,
        hardlink: bool,
        script: str | None,
        plan_file: str | None,
        dry_run: bool,
        undo_file: str | None,
        overwrite: bool,
        **kwargs: Any,
    ) -> Any:
        given = {"move": move_to is not None, "trash": trash, "hardlink": hardlink}
        actions = [action for action in get_args(Action) if given[action]]
        if len(actions) > 1:
            raise click.UsageError("of --move-to, --trash and --hardlink only one can be given")
        if trash and script is not None:
            raise click.UsageError("--script cannot be given with --trash: a script cannot use it everywhere")
        wanted = Wanted(
            Keep(keep_in, keep_matching, by),
            reference,
            actions[0] if actions else None,
            move_to,
            script,
            plan_file,
            dry_run,
            undo_file,
            overwrite,
        )
        if dry_run and not (wanted.acts or kwargs.get("plan_to_apply")):
            raise click.UsageError("--dry-run needs --move-to, --trash or --hardlink: without them nothing is done")
        return command(*args, wanted=wanted, overwrite=overwrite, **kwargs)

    return wrapped


class Outcome(NamedTuple):
    """What became of a plan on the command line."""

    carried: Carried
    plan: Plan
    other_bytes: int = 0
    """Copies that are left, as a hard link needs the same bytes."""

    @property
    def left(self) -> tuple[Left, ...]:
        """What was refused, when the plan was made and when it was carried out."""
        return self.plan.left + self.carried.left

    @property
    def code(self) -> Exit:
        """How to exit."""
        if self.carried.stopped is not None:
            return Exit.USAGE
        return Exit.UNREADABLE if self.left else Exit.DONE


def act(plan: Plan, wanted: Wanted) -> Outcome:
    """Do with a plan what the options say."""
    others = 0
    if wanted.action == "hardlink":
        others = sum(step.file.digest != step.kept.digest for step in plan.steps)
    plan = wanted.decided(plan)
    carried = Carried((), ())
    if wanted.script is not None:
        write_script(plan, wanted.script, overwrite=wanted.overwrite)
    if wanted.plan_file is not None:
        write_plan(plan, wanted.plan_file, overwrite=wanted.overwrite)
    if wanted.script is None and wanted.plan_file is None:
        undo_file = wanted.undo_file or ("" if wanted.dry_run else _new_undo_file())
        if plan.steps and not wanted.dry_run:  # said before, for it may be killed
            warn(f"what is done is written to {printable(undo_file)}")
        with progress_bar("looking at files", "looking at files" if wanted.dry_run else "acting") as progress:
            carried = carry_out(plan, undo_file, dry_run=wanted.dry_run, progress=progress)
    return Outcome(carried, plan, others)


def apply_plan(path: str, plan: Plan, wanted: Wanted, *, as_json: bool) -> Exit:
    """Carry out the plan of a file."""
    if not (wanted.action or wanted.script) and any(step.action is None for step in plan.steps):
        raise click.UsageError(
            f"{printable(path)} does not say what is to be done: give --move-to, --trash or --hardlink"
        )
    outcome = act(plan, wanted)
    if as_json:
        print_json(outcome_as_json(outcome, wanted))
    else:
        print_outcome(outcome, wanted)
    print_left(outcome)
    return outcome.code


def undo_all(path: str, *, as_json: bool) -> Exit:
    """Bring back what an undo file tells."""
    with progress_bar("looking at files", "bringing back") as progress:
        undone = undo(path, progress=progress)
    if as_json:
        print_json(
            {
                "restored": [*undone.restored],
                "already": undone.already,
                "left": [{"path": left.path, "reason": left.reason} for left in undone.left],
                "unreadable_lines": [*undone.unreadable],
            }
        )
    else:
        for restored in undone.restored:
            click.echo(f"brought back {printable(restored)}")
        already = f", {undone.already:,} had not been away" if undone.already else ""
        click.echo(f"{many(len(undone.restored), 'image')} brought back{already}")
    for left in undone.left:
        warn(f"not brought back: {printable(left.path)}: {printable(left.reason)}")
    for number in undone.unreadable:
        warn(f"{printable(path)}, line {number} cannot be read")
    return Exit.UNREADABLE if undone.left or undone.unreadable else Exit.DONE


def print_outcome(outcome: Outcome, wanted: Wanted) -> None:
    """Say what was done, or would be."""
    for path in (wanted.script, wanted.plan_file):
        if path is not None:
            click.echo(f"{many(len(outcome.plan.steps), 'image')} in {printable(path)}; nothing was done")
    if wanted.script is not None or wanted.plan_file is not None:
        return
    n_bytes = 0
    for done in outcome.carried.done:
        action, file = done.step.action or "move", done.step.file
        verb = f"would {_DOES[action]}" if wanted.dry_run else _DID[action]
        to = "" if done.to is None else f" -> {printable(done.to)}"
        click.echo(f"{verb} {printable(file.path)}{to}")
        click.echo(f"  keeps {printable(done.step.kept.path)}: {printable(done.step.why)}")
        n_bytes += file.size
    count = many(len(outcome.carried.done), "image")
    click.echo(f"{count}, {size(n_bytes)}{'; nothing was done, as --dry-run says' if wanted.dry_run else ''}")
    if outcome.other_bytes:
        click.echo(f"{many(outcome.other_bytes, 'image')} left: links need the same bytes")
    if outcome.carried.undo_file is not None:
        click.echo(f"undo: pyhash dedupe --undo {printable(outcome.carried.undo_file)}")


def print_left(outcome: Outcome) -> None:
    """Name on stderr what was refused."""
    for left in outcome.left:
        warn(f"left {printable(left.path)}: {printable(left.reason)}")
    if outcome.carried.stopped is not None:
        warn(f"stopped: {printable(outcome.carried.stopped)}; the other images are left")


def outcome_as_json(outcome: Outcome, wanted: Wanted) -> dict[str, Any]:
    """Return what was done, or would be, as JSON shows it."""
    return {
        "dry_run": wanted.dry_run,
        "planned": len(outcome.plan.steps),
        "done": [
            {
                "action": done.step.action,
                "path": done.step.file.path,
                "to": done.to,
                "kept": done.step.kept.path,
                "why": done.step.why,
            }
            for done in outcome.carried.done
        ],
        "left": [{"path": left.path, "reason": left.reason} for left in outcome.left],
        "other_bytes": outcome.other_bytes,
        "undo_file": outcome.carried.undo_file,
        "stopped": outcome.carried.stopped,
    }


def check_new(wanted: Wanted) -> None:
    """Say before anything is compared that an undo file is there already, or that packages are missing."""
    if wanted.action == "trash":
        require("send2trash", "trash")
    if wanted.undo_file is not None and os.path.lexists(wanted.undo_file):
        raise click.UsageError(f"--undo-file must name a new file, and {printable(wanted.undo_file)} is there")


def _new_undo_file() -> str:
    folder: Path = require("platformdirs", "encoder").user_data_path("pyhash", appauthor=False) / "undo"
    now = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    return os.fspath(folder / f"{now}-{os.getpid()}.jsonl")
