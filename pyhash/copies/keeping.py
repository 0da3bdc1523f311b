"""Which image of a group is kept, and why."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

from ..errors import PatternError
from ..images import as_regex
from .seen import Folders
from .values import Copy, Group

__all__ = ["By", "Keep", "Kept", "beyond_one_folder", "choose"]

By: TypeAlias = Literal["best", "largest", "oldest", "newest"]
"""The first of its group, the file of most bytes, or the one written first or last."""


@dataclass(frozen=True)
class Keep:
    """Which image of a group is kept: what comes first here decides.

    Parameters
    ----------
    within : sequence of path
        Folders; one that lies in the first of them, else in the second, and so on.
    matching : sequence of str
        Patterns as in ``.gitignore`` for paths inside the folders that were searched; one that the first names, else
        the second, and so on.
    by : str
        ``"best"``, ``"largest"``, ``"oldest"`` or ``"newest"``.
    """

    within: Sequence[str] = ()
    matching: Sequence[str] = ()
    by: By = "best"

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise ValueError(f"by must be one of {', '.join(get_args(By))}, got {self.by!r}")
        for pattern in self.matching:
            _compiled(pattern)


class Kept(NamedTuple):
    """The image of a group that is kept."""

    copy: Copy
    why: str


def choose(group: Group, keep: Keep, within: Sequence[Folders], inside: Callable[[str], str]) -> Kept | None:
    """Choose the image of a group that is kept; None where none of them is there.

    What belongs to the other side, which is never touched, goes before all else.

    Parameters
    ----------
    group : Group
    keep : Keep
    within : sequence of Folders
        Its folders, one each.
    inside : callable
        Gives of a path what is inside the folder that was searched.
    """
    there = [copy for copy in group.images if not copy.away]
    for chosen, why in _preferred(there, keep, within, inside):
        if chosen:
            return Kept(*_by(chosen, keep.by, group, why))
    return None


def beyond_one_folder(groups: Iterable[Group]) -> list[Group]:
    """Return the groups whose images do not all lie in one folder."""
    return [group for group in groups if len({os.path.dirname(copy.path) for copy in group.images}) > 1]


def _preferred(
    copies: list[Copy], keep: Keep, within: Sequence[Folders], inside: Callable[[str], str]
) -> Iterable[tuple[list[Copy], str]]:
    yield [copy for copy in copies if copy.reference], "on the side that is never touched"
    for folder, its in zip(keep.within, within, strict=True):
        yield [copy for copy in copies if its.hold(os.path.realpath(copy.path))], f"in {folder}"
    for pattern in keep.matching:
        matches = _compiled(pattern)
        yield [copy for copy in copies if _is_named(inside(copy.path), matches)], f"matches {pattern}"
    yield copies, ""


def _by(copies: list[Copy], by: By, group: Group, why: str) -> tuple[Copy, str]:
    # min and max take the first of several, which is the best of them.
    if by == "largest":
        chosen, reason = max(copies, key=lambda copy: copy.n_bytes), "largest file"
    elif by == "oldest":
        chosen, reason = min(copies, key=lambda copy: copy.mtime_ns), "oldest"
    elif by == "newest":
        chosen, reason = max(copies, key=lambda copy: copy.mtime_ns), "newest"
    else:
        chosen, reason = copies[0], group.reason if copies[0] is group.images[0] else "best of those"
    alone = len(copies) == 1 and why
    return chosen, why if alone else ", ".join(filter(None, (why, reason)))


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return as_regex(pattern.removesuffix("/"))
    except ValueError as error:
        raise PatternError(f"the pattern {pattern!r} is wrong: {error}") from error


def _is_named(inside: str, pattern: re.Pattern[str]) -> bool:
    """Whether a pattern names a path, or a folder around it."""
    parts = inside.replace(os.sep, "/").split("/")
    return any(pattern.fullmatch("/".join(parts[:count])) for count in range(1, len(parts) + 1))
