"""Plans as JSON files, which people read, edit and keep."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import Any, get_args

from ..errors import PlanError
from ..support import files
from .plans import Action, Plan, Step
from .seen import Seen
from .values import Level

__all__ = [
    "_VERSION",
    "path_as_json",
    "path_of",
    "plan_as_json",
    "read_plan",
    "seen_as_json",
    "seen_of",
    "write_plan",
]

_VERSION = 1
_MARK = '"pyhash": "plan"'
_NUMBERS = ("mtime_ns", "ctime_ns", "inode")
"""As text: many readers of JSON keep 53 bits of a number."""


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as its file shows it."""
    return {
        "pyhash": "plan",
        "version": _VERSION,
        "folders": [*map(path_as_json, plan.folders)],
        "reference": [*map(path_as_json, plan.reference)],
        "move_to": None if plan.move_to is None else path_as_json(plan.move_to),
        "steps": [
            {
                "action": step.action,
                "level": step.level,
                "why": step.why,
                "file": seen_as_json(step.file),
                "kept": seen_as_json(step.kept),
            }
            for step in plan.steps
        ],
    }


def write_plan(plan: Plan, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a plan to a file, whole or not at all; ForeignFileError where a file is there that is no plan."""
    text = json.dumps(plan_as_json(plan), indent=1)
    files.write(path, [text.encode(), b"\n"], [_MARK.encode()], overwrite=overwrite)


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan; PlanError where the file is none, is damaged, or of a later pyhash."""
    name = os.fspath(path)
    with open(path, "rb") as file:
        text = file.read()
    try:
        read = json.loads(text)
    except ValueError as error:
        raise PlanError(f"{name} is no plan of pyhash, or is damaged: {error}") from error
    if isinstance(read, dict) and read.get("pyhash") == "choices":
        raise PlanError(f"{name} holds what was chosen on the page of a service: give the folder that is served, too")
    if not isinstance(read, dict) or read.get("pyhash") != "plan":
        raise PlanError(f"{name} is no plan of pyhash: it does not say so")
    version = read.get("version")
    if version != _VERSION:
        raise PlanError(f"{name} is a plan of version {version!r}; this pyhash reads version {_VERSION}")
    what = "it"
    try:
        folders, reference = (tuple(map(path_of, read[key])) for key in ("folders", "reference"))
        move_to = None if read["move_to"] is None else path_of(read["move_to"])
        steps = []
        for number, step in enumerate(read["steps"], 1):
            what = f"step {number}"
            steps.append(_step_of(step))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise PlanError(f"{name} cannot be carried out: {what} is wrong: {reason}") from error
    return Plan(folders, tuple(steps), move_to, reference)


def seen_as_json(seen: Seen) -> dict[str, Any]:
    """Return what a file was as JSON."""
    return {
        **path_as_json(seen.path),
        "size": seen.size,
        **{name: str(getattr(seen, name)) for name in _NUMBERS},
        "digest": seen.digest.hex(),
    }


def seen_of(read: Mapping[str, Any]) -> Seen:
    """Return what a file was of JSON; an error where that is wrong."""
    numbers = {name: int(read[name]) for name in ("size", *_NUMBERS)}
    return Seen(path_of(read), digest=bytes.fromhex(read["digest"]), **numbers)


def path_as_json(path: str) -> dict[str, str]:
    """Return a path as JSON: where it is no Unicode its bytes, too."""
    shown = {"path": path}
    try:
        path.encode()
    except UnicodeEncodeError:
        shown["path_bytes"] = base64.b64encode(os.fsencode(path)).decode("ascii")
    return shown


def path_of(read: Mapping[str, Any]) -> str:
    """Return a path of JSON; an error where it is no whole path."""
    path = read["path"]
    if "path_bytes" in read:
        try:
            path = os.fsdecode(base64.b64decode(read["path_bytes"], validate=True))
        except binascii.Error as error:
            raise ValueError(f"path_bytes must be base64: {error}") from error
    if not isinstance(path, str) or not os.path.isabs(path) or os.path.normpath(path) != path or "\0" in path:
        raise ValueError(f"a path must be absolute, without . and .., got {path!r}")
    return path


def _step_of(read: Mapping[str, Any]) -> Step:
    action, level, why = read["action"], read["level"], read["why"]
    if action is not None and action not in get_args(Action):
        raise ValueError(f"action must be null or one of {', '.join(get_args(Action))}, got {action!r}")
    if level not in get_args(Level):
        raise ValueError(f"level must be one of {', '.join(get_args(Level))}, got {level!r}")
    if not isinstance(why, str):
        raise TypeError(f"why must be text, got {why!r}")
    return Step(action, seen_of(read["file"]), seen_of(read["kept"]), why, level)
