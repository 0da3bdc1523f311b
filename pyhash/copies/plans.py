"""Plans: what is to be done with which copies, and what they and the images that are kept were when compared."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

from .choices import choices, inside_of, is_proved
from .keeping import Keep
from .seen import Seen, is_under
from .values import Group, Level

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
    belong to the side which is never touched. What only a chain joins to the image that is kept is left, unless it has
    the same bytes.

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
    duplicates = (group for group in groups if group.level == "duplicates")
    steps: list[Step] = []
    left: list[Left] = []
    for choice in choices(duplicates, folders, keep=keep, reference=reference):
        for place, option in enumerate(choice.options):
            if place == choice.kept or option.copy.away or option.copy.reference or choice.kept is None:
                continue
            kept = choice.options[choice.kept]
            reason = option.locked or (kept.seen is None and f"of {kept.copy.path}, which is to be kept: {kept.locked}")
            if option.seen is None or kept.seen is None or reason:
                left.append(Left(option.copy.path, reason or ""))
            elif not is_proved(option, kept):
                left.append(
                    Left(option.copy.path, "it was not proved to be a copy of the one kept: look yourself (--html)")
                )
            else:
                steps.append(Step(None, option.seen, kept.seen, choice.why))
    real, real_reference = (tuple(os.path.realpath(folder) for folder in some) for some in (folders, reference))
    return Plan(real, tuple(steps), None, real_reference, tuple(left))


def places(plan: Plan) -> Iterator[tuple[Step, str | None]]:
    """Yield each step with where its file is to be moved: its place in its folder, under the one that is moved to."""
    names = _distinct([os.path.basename(folder) for folder in plan.folders])
    several = len(plan.folders) > 1
    for step in plan.steps:
        target = None
        if step.action == "move" and plan.move_to is not None:
            folder, inside = inside_of(step.file.path, plan.folders)
            name = names[plan.folders.index(folder)] if several and folder else ""
            target = os.path.join(plan.move_to, name, inside)
        yield step, target


def _is_found_in(target: str, folder: str) -> bool:
    """Whether images that are moved to a folder are found again in one that is searched."""
    if not is_under(os.path.join(target, ""), folder):
        return False
    return not any(part.startswith(".") for part in target[len(folder) :].split(os.sep))


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
