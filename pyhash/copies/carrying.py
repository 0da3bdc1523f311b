"""Plans carried out: each step is looked at again at the moment of acting, and written down before."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection
from typing import NamedTuple, TypeAlias

from ..support import require
from .choices import real_path
from .journal import Entry, Journal
from .moving import link_over, metadata_of, move, temporary_for
from .plans import Left, Plan, Step, places
from .seen import Folders, Refusal, Seen, check, is_under, refusing
from .trash import put_in_trash

__all__ = ["Carried", "Done", "Progress", "carry_out"]

Progress: TypeAlias = Callable[[int, int], object]
"""Called with how many steps are done, and how many there are."""


class Done(NamedTuple):
    """A step that was carried out, or would be."""

    step: Step
    to: str | None
    """Where the file is now, if it was moved."""


class Carried(NamedTuple):
    """What became of a plan."""

    done: tuple[Done, ...]
    left: tuple[Left, ...]
    """Files that were refused, and why."""
    undo_file: str | None = None
    """What brings all back; None where nothing was done."""
    stopped: str | None = None
    """Why the steps after the last of these were not tried."""


class _Stop(Exception):
    """The undo file cannot be written: nothing more may be done."""


def carry_out(
    plan: Plan,
    undo_file: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Carried:
    """Carry out a plan.

    A step is refused, and the rest goes on, unless at the moment of acting the image that is kept is there and what it
    was when it was compared, byte for byte; so is the file; it is not another name of the one kept, nor a link, nor
    reached through one; it lies in the plan's folders, and in none where nothing is touched. No file is written over.

    Parameters
    ----------
    plan : Plan
        Its steps have an action.
    undo_file : path
        A new file. What is to be done is written to it, through to the disk, before it is done; `undo` reads it.
    dry_run : bool
        Look at all, and do nothing.
    progress : callable, optional
        Called with (done, total).

    Raises
    ------
    ValueError
        When a step has no action.
    FileExistsError
        When there is a file of this name already.
    ImportError
        When files are to be put into the trash, and the package for that is missing.
    """
    if any(step.action is None for step in plan.steps):
        raise ValueError("plan must say what is to be done: Plan.decided gives it an action")
    if any(step.action == "trash" for step in plan.steps):
        require("send2trash", "trash")
    if not dry_run and os.path.lexists(undo_file):
        raise FileExistsError(errno.EEXIST, "there is a file of this name, and it must be new", os.fspath(undo_file))
    journal, stopped = Journal(undo_file), None
    done: list[Done] = []
    left: list[Left] = []
    act = _Rehearsal() if dry_run else _Acting(journal)
    acted_on, never = {step.file.path for step in plan.steps}, Folders(plan.reference)
    try:
        for number, (step, target) in enumerate(places(plan), 1):
            try:
                with refusing():
                    _allowed(step, plan, acted_on, never)
                    done.append(Done(step, act.take(step, target)))
            except Refusal as refusal:
                left.append(Left(step.file.path, str(refusal)))
            if progress is not None:
                progress(number, len(plan.steps))
    except _Stop as stop:
        stopped = str(stop)
    finally:
        journal.close()
    return Carried(tuple(done), tuple(left), journal.path if journal.begun else None, stopped)


def _allowed(step: Step, plan: Plan, acted_on: Collection[str], never: Folders) -> None:
    """Refusal where a step may not be done."""
    file, kept = step.file, step.kept
    if not any(is_under(file.path, folder) for folder in plan.folders):
        raise Refusal("it lies in none of the plan's folders")
    if never.hold(file.path):
        raise Refusal("it lies in a folder in which nothing is touched")
    if real_path(file.path) != file.path:
        raise Refusal("it is reached through a link")
    if kept.path in acted_on:
        raise Refusal(f"{kept.path}, which is to be kept, is one of the files that something is done with")
    now = check(file)
    try:
        kept_now = check(kept)
    except Refusal as refusal:
        raise Refusal(f"of {kept.path}, which is to be kept: {refusal}") from refusal
    if os.path.samestat(now, kept_now):
        raise Refusal("it is another name of the file that is kept")
    if step.action == "hardlink":
        if file.digest != kept.digest:
            raise Refusal("its bytes are not those of the one kept")
        if now.st_dev != kept_now.st_dev:
            raise Refusal("it lies on another file system than the one kept")
        if now.st_nlink > 1:
            raise Refusal("it has other names (hard links), which would be left behind")
    if step.action == "move" and now.st_nlink > 1 and plan.move_to is not None:
        there = plan.move_to
        while not os.path.exists(there):
            there = os.path.dirname(there)
        if os.stat(there).st_dev != now.st_dev:
            raise Refusal("it has other names (hard links), which a move to another file system would part")


class _Rehearsal:
    """Tells where files would go."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, step: Step, target: str | None) -> str | None:
        """Return where a file would be moved."""
        if target is not None:
            target = _free(target, self._taken)
            self._taken.add(target)
        return target


class _Acting:
    """Does what a step says."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def take(self, step: Step, target: str | None) -> str | None:
        """Do it; return where the file was moved."""
        if step.action == "hardlink":
            self._link(step)
        elif step.action == "trash":
            self._noted(Entry("trash", step.file), lambda: put_in_trash(step.file.path))
        elif target is not None:
            return self._move(step.file, target)
        return None

    def _link(self, step: Step) -> None:
        temporary = temporary_for(step.file.path)
        entry = Entry(
            "hardlink",
            step.file,
            kept=step.kept,
            metadata=metadata_of(step.file.path),
            temporary=temporary,
        )
        self._noted(entry, lambda: link_over(step.file, step.kept, temporary))

    def _move(self, file: Seen, target: str) -> str:
        while True:
            to = _free(target, ())
            temporary, missing = temporary_for(to), _missing(os.path.dirname(to))
            entry = Entry("move", file, to=to, temporary=temporary, folders=missing)

            def do(to: str = to, temporary: str = temporary) -> None:
                with refusing():
                    os.makedirs(os.path.dirname(to), exist_ok=True)
                move(file, to, temporary)

            with contextlib.suppress(FileExistsError):  # another process was faster
                self._noted(entry, do)
                return to

    def _noted(self, entry: Entry, do: Callable[[], None]) -> None:
        try:
            number = self._journal.intend(entry)
        except OSError as error:
            raise _Stop(f"the undo file {self._journal.path} cannot be written: {error.strerror}") from error
        try:
            do()
        except (OSError, Refusal):
            self._journal.settle(number, "failed")
            raise
        self._journal.settle(number, "done")


def _missing(folder: str) -> tuple[str, ...]:
    """The folders on the way to one that are not there, the outermost first."""
    missing: list[str] = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return tuple(reversed(missing))


def _free(target: str, taken: Collection[str]) -> str:
    """A name that nothing has: the target's, or with a number."""
    base, ending = os.path.splitext(target)
    name, count = target, 1
    while os.path.lexists(name) or name in taken:
        count += 1
        name = f"{base} ({count}){ending}"
    return name
