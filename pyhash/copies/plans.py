"""Plans: what is to be done with which copies, and what they and the images that are kept were when compared."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

from .keeping import Keep, choose
from .seen import Refusal, Seen, digest_of, is_under, status_of
from .values import Copy, Group, Level

__all__ = ["Action", "Left", "Plan", "Step", "make_plan", "places"]

Action: TypeAlias = Literal["move", "trash", "hardlink"]
"""Move to another folder, put into the trash, or make another name of the file that is kept."""


class Step(NamedTuple):
    """What is to be done with one copy."""

    action: Action | None
    """None: not decided yet."""
    file: Seen
    kept: Seen
    """The image of its group that is kept."""
    why: str
    """Why that one is kept."""
    level: Level = "duplicates"


class Left(NamedTuple):
    """A file that is left as it is."""

    path: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What is to be done with copies; nothing is done until it is carried out.

    Parameters
    ----------
    folders : sequence of str
        Real paths of folders: nothing outside of them is touched.
    steps : sequence of Step
    move_to : str, optional
        The folder that images are moved to, with their places in `folders`.
    reference : sequence of str
        Real paths of folders in which nothing is touched.
    left : sequence of Left
        Copies that no step is about, and why.
    """

    folders: tuple[str, ...]
    steps: tuple[Step, ...]
    move_to: str | None = None
    reference: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()

    def decided(self, action: Action, move_to: str | os.PathLike[str] | None = None) -> Plan:
        """Return the plan with one action for all steps; hard links of the steps alone whose files have the same bytes.

        Raises
        ------
        ValueError
            When images are to be moved, and not said where to, or to where they are found again.
        """
        if action not in get_args(Action):
            raise ValueError(f"action must be one of {', '.join(get_args(Action))}, got {action!r}")
        if (action == "move") != (move_to is not None):
            raise ValueError("move_to must be a folder where the action is to move, and nothing else")
        target = None if move_to is None else os.path.realpath(move_to)
        for folder in self.folders:
            if target is not None and _is_found_in(target, folder):
                raise ValueError(
                    f"move_to must lie outside of {folder}, where the images would be found again, or in a folder "
                    f"there whose name begins with a dot, got {target}"
                )
        steps = tuple(
            step._replace(action=action)
            for step in self.steps
            if action != "hardlink" or step.file.digest == step.kept.digest
        )
        return dataclasses.replace(self, steps=steps, move_to=target)


def make_plan(
    groups: Iterable[Group],
    folders: Sequence[str | os.PathLike[str]],
    *,
    keep: Keep | None = None,
    reference: Sequence[str | os.PathLike[str]] = (),
) -> Plan:
    """Plan to keep one image of each group of duplicates, and to do something with the others.

    Groups of similar images are passed over: what is alike is no copy. So are images that are away, and those that
    belong to the side which is never touched.

    Parameters
    ----------
    groups : iterable of Group
    folders : sequence of path
        The folders that were searched; nothing outside of them is touched.
    keep : Keep, optional
        Which image is kept; by default the best.
    reference : sequence of path
        Folders in which nothing is touched; what lies there is kept.

    Returns
    -------
    plan : Plan
        Without an action yet (`Plan.decided`).
    """
    given = [os.fspath(folder) for folder in folders]
    real, real_reference = (tuple(os.path.realpath(folder) for folder in some) for some in (folders, reference))
    keep = keep or Keep()
    steps: list[Step] = []
    left: list[Left] = []
    for group in groups:
        if group.level != "duplicates":
            continue
        marked = group._replace(images=tuple(_marked(copy, real_reference) for copy in group.images))
        kept = choose(marked, keep, lambda path: _inside(path, given)[1])
        others = [copy for copy in marked.images if not (copy.away or copy.reference)]
        if kept is None or not (others := [copy for copy in others if copy is not kept.copy]):
            continue
        try:
            kept_seen = _seen(kept.copy, real_path(kept.copy.path))
        except Refusal as refusal:
            reason = f"of {kept.copy.path}, which is to be kept: {refusal}"
            left += [Left(copy.path, reason) for copy in others]
            continue
        for copy in others:
            try:
                seen = _seen(copy, _real_inside(copy.path, given))
                if copy.joined_by is not None and seen.digest != kept_seen.digest:
                    raise Refusal(f"only {copy.joined_by} joins it to its group: it may be no copy of the one kept")
            except Refusal as refusal:
                left.append(Left(copy.path, str(refusal)))
            else:
                steps.append(Step(None, seen, kept_seen, kept.why, group.level))
    return Plan(real, tuple(steps), None, real_reference, tuple(left))


def places(plan: Plan) -> Iterator[tuple[Step, str | None]]:
    """Yield each step with where its file is to be moved: its place in its folder, under the one that is moved to."""
    names = _distinct([os.path.basename(folder) for folder in plan.folders])
    several = len(plan.folders) > 1
    for step in plan.steps:
        target = None
        if step.action == "move" and plan.move_to is not None:
            folder, inside = _inside(step.file.path, plan.folders)
            name = names[plan.folders.index(folder)] if several and folder else ""
            target = os.path.join(plan.move_to, name, inside)
        yield step, target


def real_path(path: str) -> str:
    """The path of a file with no link around it; the file itself may be one."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _is_found_in(target: str, folder: str) -> bool:
    """Whether images that are moved to a folder are found again in one that is searched."""
    if not is_under(os.path.join(target, ""), folder):
        return False
    return not any(part.startswith(".") for part in target[len(folder) :].split(os.sep))


def _marked(copy: Copy, reference: Sequence[str]) -> Copy:
    if copy.reference or not any(is_under(real_path(copy.path), folder) for folder in reference):
        return copy
    return copy._replace(reference=True)


def _seen(copy: Copy, real: str) -> Seen:
    """What a file was when it was compared; Refusal where it is that no more."""
    now = status_of(real)
    if (now.st_size, now.st_mtime_ns) != (copy.n_bytes, copy.mtime_ns):
        raise Refusal("it has changed since it was compared")
    digest = digest_of(real) if copy.digest is None else copy.digest
    return Seen(real, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, digest)


def _inside(path: str, folders: Sequence[str]) -> tuple[str, str]:
    """The innermost of the folders that a path lies in, and the path inside it; nothing and the path where in none."""
    around = [folder for folder in folders if is_under(path, folder)]
    if not around:
        return "", path.lstrip(os.sep)
    folder = max(around, key=len)
    return folder, path[len(os.path.join(folder, "")) :]


def _real_inside(path: str, folders: Sequence[str]) -> str:
    """The real path of a file in one of the folders; Refusal where a link in the folder leads to it."""
    folder, inside = _inside(path, folders)
    if not folder:
        raise Refusal("it lies in none of the folders")
    real = os.path.normpath(os.path.join(os.path.realpath(folder), inside))
    if real_path(path) != real:
        raise Refusal("it is reached through a link")
    return real


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that differ in more than the case of their letters."""
    found: list[str] = []
    for name in names:
        count, candidate = 1, name or "root"
        while candidate.lower() in (other.lower() for other in found):
            count += 1
            candidate = f"{name} ({count})"
        found.append(candidate)
    return found
