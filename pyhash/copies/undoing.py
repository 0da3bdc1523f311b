"""What an undo file tells is brought back.

What was done is seen from the files themselves, so that neither a killed process nor a second undo does harm.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from ..support import files
from .carrying import Progress
from .journal import Entry, Journal, read_journal
from .moving import move, remove_temporary, separate, temporary_for
from .plans import Left
from .seen import Refusal, Seen, digest_of, look_at, refusing, status_of
from .trash import InTrash, Trash

__all__ = ["Undone", "undo"]


class Undone(NamedTuple):
    """What was brought back."""

    restored: tuple[str, ...]
    """Paths of files that are again what they were."""
    already: int
    """How many were that already."""
    left: tuple[Left, ...]
    """Files that could not be brought back, and why; where they are, is said there."""
    unreadable: tuple[int, ...] = ()
    """Numbers of lines of the undo file that cannot be read."""


def undo(undo_file: str | os.PathLike[str], *, progress: Progress | None = None) -> Undone:
    """Bring back what an undo file tells, the last first; nothing is written over.

    Moved files get their old names, hard links become files of their own with what belonged to them, and what is found
    in the trash is taken out. What was changed since is left where it is.

    Parameters
    ----------
    undo_file : path
        As `carry_out` wrote it, also if it was killed.
    progress : callable, optional
        Called with (done, total).

    Raises
    ------
    PlanError
        When the file is no undo file.
    """
    read = read_journal(undo_file)
    for temporary in read.temporaries:
        remove_temporary(temporary)
    journal, trash = Journal(undo_file, continued=True), Trash()
    restored: list[str] = []
    left: list[Left] = []
    already = 0
    try:
        for count, (number, entry) in enumerate(sorted(read.entries.items(), reverse=True), 1):
            if entry.temporary is not None:
                remove_temporary(entry.temporary)
            try:
                with refusing():
                    if not entry.settled and _brought_back(entry, journal, trash):
                        restored.append(entry.file.path)
                    else:
                        already += 1
            except Refusal as refusal:
                left.append(Left(entry.file.path, str(refusal)))
            else:
                if not entry.settled:
                    journal.settle(number, "undone")
                for folder in reversed(entry.folders):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)  # only if it is empty
            if progress is not None:
                progress(count, len(read.entries))
    finally:
        journal.close()
    return Undone(tuple(restored), already, tuple(left), tuple(read.unreadable))


def _brought_back(entry: Entry, journal: Journal, trash: Trash) -> bool:
    """Undo a step; return whether there was anything to be done."""
    if entry.action == "move":
        return _undo_move(entry, journal)
    return _undo_hardlink(entry, journal) if entry.action == "hardlink" else _undo_trash(entry, journal, trash)


def _undo_move(entry: Entry, journal: Journal) -> bool:
    assert entry.to is not None
    if not os.path.lexists(entry.to):
        return _is_back(entry.file, f"nor is it at {entry.to}")
    moved = look_at(entry.to)
    if moved.digest != entry.file.digest:
        raise Refusal(f"{entry.to} has changed since it was moved, and is left there")
    if os.path.lexists(entry.file.path):
        _check_same(entry.file, moved, entry.to)
        os.unlink(entry.to)  # it has its old name, too: the move was not finished
        files.sync(Path(entry.to).parent)
        return True
    _move_back(moved, entry.file.path, journal)
    return True


def _undo_trash(entry: Entry, journal: Journal, trash: Trash) -> bool:
    path, in_trash = entry.file.path, trash.of(entry.file.path)
    if os.path.lexists(path):
        for found in in_trash:
            if not os.path.lexists(found.path) or _is_same_file(os.lstat(path), found.path):  # it is half way back
                _take_out(found)
        return _is_back(entry.file, "")
    for found in in_trash:
        with contextlib.suppress(Refusal):
            moved = look_at(found.path)
            if moved.digest == entry.file.digest:
                _move_back(moved, path, journal)
                _take_out(found)
                return True
    raise Refusal("it was put into the trash, where it is not found: restore it by the means of the system")


def _take_out(found: InTrash) -> None:
    """Remove what is left in the trash of a file that is elsewhere."""
    for path in found:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _undo_hardlink(entry: Entry, journal: Journal) -> bool:
    assert entry.kept is not None
    assert entry.metadata is not None
    now = status_of(entry.file.path)
    if digest_of(entry.file.path) != entry.file.digest:
        raise Refusal("its bytes have changed since it became a link: they are left")
    if now.st_nlink == 1 or not (now.st_ino == entry.kept.inode or _is_same_file(now, entry.kept.path)):
        return False
    temporary = temporary_for(entry.file.path)
    journal.name(temporary)
    separate(look_at(entry.file.path), entry.metadata, temporary)
    return True


def _is_back(file: Seen, nor: str) -> bool:
    """Whether anything was to be done where a file is at its old name alone: no; Refusal where it is not there."""
    try:
        digest = digest_of(file.path) if status_of(file.path).st_size == file.size else None
    except Refusal as refusal:
        raise Refusal(", ".join(filter(None, (str(refusal), nor)))) from refusal
    if digest != file.digest:
        raise Refusal(", ".join(filter(None, ("what has its old name is another file, and is left", nor))))
    return False


def _check_same(file: Seen, moved: Seen, to: str) -> None:
    """Refusal where what has the old name is not what was moved."""
    try:
        same = digest_of(file.path) == moved.digest
    except Refusal:
        same = False
    if not same:
        raise Refusal(f"something else has its old name; it is left at {to}")


def _move_back(moved: Seen, path: str, journal: Journal) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = temporary_for(path)
    journal.name(temporary)
    try:
        move(moved, path, temporary)
    except FileExistsError as error:
        raise Refusal(f"something else has its old name; it is left at {moved.path}") from error


def _is_same_file(now: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(now, os.lstat(path))
    except OSError:
        return False
