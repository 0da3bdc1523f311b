"""What was chosen on the page of a service, as a plan; its paths are those that the service tells."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from ..errors import PlanError
from .choices import real_path
from .plans import Left, Plan, Step
from .seen import Refusal, Seen, status_of
from .values import Level

__all__ = ["holds_choices", "read_choices"]

_VERSION = 1


def holds_choices(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it holds what was chosen on the page of a service."""
    try:
        with open(path, "rb") as file:
            read = json.loads(file.read())
    except ValueError:
        return False
    return isinstance(read, dict) and read.get("pyhash") == "choices"


def read_choices(path: str | os.PathLike[str], folders: Sequence[str | os.PathLike[str]]) -> Plan:
    """Read what was chosen on the page of a service as a plan.

    Parameters
    ----------
    path : path
        Of the file that the page saved.
    folders : sequence of paths
        Those of the gallery that is served.

    Returns
    -------
    Plan
        Without an action. Each file must be what the page showed when the plan is carried out.

    Raises
    ------
    PlanError
        When the file holds no choices, is damaged, or of a later pyhash.
    """
    name, real = os.fspath(path), tuple(os.path.realpath(folder) for folder in folders)
    try:
        with open(path, "rb") as file:
            read = json.loads(file.read())
        if read["pyhash"] != "choices":
            raise ValueError("it does not say so")
        if read["version"] != _VERSION:
            raise ValueError(f"this pyhash reads version {_VERSION}, and it is of version {read['version']!r}")
        steps: list[Step] = []
        left: list[Left] = []
        for step in read["steps"]:
            level, why = step["level"], step["why"]
            if level not in get_args(Level) or not isinstance(why, str):
                raise ValueError(f"a level and a reason must be known, got {level!r} and {why!r}")
            aside, kept = (_file_of(step[side], folders, real) for side in ("file", "kept"))
            try:
                steps.append(Step(None, _seen_of(aside, step["file"]), _seen_of(kept, step["kept"]), why, level))
            except Refusal as refusal:
                left.append(Left(aside, f"it or what is to be kept, {kept}: {refusal}"))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise PlanError(f"{name} holds no choices of a page of pyhash, or is damaged: {reason}") from error
    return Plan(real, tuple(steps), left=tuple(left))


def _file_of(read: Mapping[str, Any], folders: Sequence[str | os.PathLike[str]], real: Sequence[str]) -> str:
    """Where a file lies that the page calls by its path inside the folder; of several folders, with that one's name."""
    inside = read["path"]
    if not isinstance(inside, str) or os.path.isabs(inside) or ".." in inside.split("/") or not inside.strip("/."):
        raise ValueError(f"a path must lie inside the folder, got {inside!r}")
    if len(folders) == 1:
        return real_path(os.path.join(real[0], inside))
    first, _, rest = inside.partition("/")
    for folder, there in zip(folders, real, strict=True):
        if os.path.basename(os.fspath(folder)) == first and os.path.lexists(os.path.join(there, rest)):
            return real_path(os.path.join(there, rest))
    return os.path.join(real[0], inside)


def _seen_of(path: str, read: Mapping[str, Any]) -> Seen:
    """What a file was when the page showed it; Refusal where none is there now."""
    now = status_of(path)
    return Seen(
        path, int(read["size"]), int(read["mtime_ns"]), now.st_ctime_ns, now.st_ino, bytes.fromhex(read["digest"])
    )
