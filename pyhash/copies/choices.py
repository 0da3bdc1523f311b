"""What can be done with the images of groups: which is kept, and which others may go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .keeping import Keep, choose
from .seen import Folders, Refusal, Seen, digest_of, is_under, status_of
from .values import Copy, Group

__all__ = ["Choice", "Option", "choices", "inside_of", "is_proved", "real_path"]


class Option(NamedTuple):
    """An image of a group."""

    copy: Copy
    seen: Seen | None
    """What its file was when it was compared; None where it is that no more."""
    locked: str
    """Why nothing may be done with it; empty where something may."""


class Choice(NamedTuple):
    """A group, and what can be done with its images."""

    group: Group
    options: tuple[Option, ...]
    kept: int | None
    """The place of the image that is kept; None where none of them is there."""
    why: str
    """Why that one."""


def choices(
    groups: Iterable[Group],
    folders: Sequence[str | os.PathLike[str]],
    *,
    keep: Keep | None = None,
    reference: Sequence[str | os.PathLike[str]] = (),
) -> Iterator[Choice]:
    """Yield of each group which image is kept, and what can be done with it and the others; see `make_plan`."""
    given = [os.fspath(folder) for folder in folders]
    keep = keep or Keep()
    for name, folder in (*(("reference", one) for one in reference), *(("within", one) for one in keep.within)):
        if not os.path.isdir(folder):
            raise ValueError(f"{name} must be folders that are there, and {os.fspath(folder)} is none")
    never, wanted = Folders(reference), [Folders([folder]) for folder in keep.within]
    for group in groups:
        group = group._replace(images=tuple(_marked(copy, never) for copy in group.images))
        kept = choose(group, keep, wanted, lambda path: inside_of(path, given)[1])
        options = tuple(_option(copy, given) for copy in group.images)
        place = None if kept is None else next(n for n, copy in enumerate(group.images) if copy is kept.copy)
        yield Choice(group, options, place, "" if kept is None else kept.why)


def is_proved(option: Option, kept: Option) -> bool:
    """Whether an image was proved to be a copy of another of its group: both of the first, or one of the other."""
    if option.seen is not None and kept.seen is not None and option.seen.digest == kept.seen.digest:
        return True
    one, other = option.copy, kept.copy
    if one.joined_by is None and other.joined_by is None:
        return True
    return one.joined_by == other.path or other.joined_by == one.path


def inside_of(path: str, folders: Sequence[str]) -> tuple[str, str]:
    """The innermost of the folders that a path lies in, and the path inside it; nothing and the path where in none."""
    around = [folder for folder in folders if is_under(path, folder)]
    if not around:
        return "", path.lstrip(os.sep)
    folder = max(around, key=len)
    return folder, path[len(os.path.join(folder, "")) :]


def real_path(path: str) -> str:
    """The path of a file with no link around it; the file itself may be one."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _option(copy: Copy, folders: Sequence[str]) -> Option:
    """What can be done with an image: what is never touched may still be kept."""
    seen, locked = None, ""
    try:
        if copy.away:
            raise Refusal("it is away")
        seen = _seen(copy, real_path(copy.path))
        if copy.reference:
            raise Refusal("it is on the side that is never touched")
        _check_place(copy.path, folders)
    except Refusal as refusal:
        locked = str(refusal)
    return Option(copy, seen, locked)


def _marked(copy: Copy, never: Folders) -> Copy:
    return copy._replace(reference=True) if not copy.reference and never.hold(real_path(copy.path)) else copy


def _seen(copy: Copy, real: str) -> Seen:
    """What a file was when it was compared; Refusal where it is that no more."""
    now = status_of(real)
    if (now.st_size, now.st_mtime_ns) != (copy.n_bytes, copy.mtime_ns):
        raise Refusal("it has changed since it was compared")
    digest = digest_of(real) if copy.digest is None else copy.digest
    return Seen(real, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, digest)


def _check_place(path: str, folders: Sequence[str]) -> None:
    """Refusal where a file lies in none of the folders, or where a link in one leads to it."""
    folder, inside = inside_of(path, folders)
    if not folder:
        raise Refusal("it lies in none of the folders")
    if real_path(path) != os.path.normpath(os.path.join(os.path.realpath(folder), inside)):
        raise Refusal("it is reached through a link")
