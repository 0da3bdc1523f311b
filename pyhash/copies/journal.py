"""The undo file: what is to be done is written down, through to the disk, before it is done.

Lines of JSON, to which more are appended only. The first says what the file is. Then, of each step, one line before it:
what is done with which file, where to, by which temporary name, and which folders are made for it; and one after it.
The latter may be missing where a process was killed: what was done is seen from the files themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ..errors import PlanError
from ..support import files
from .moving import Metadata
from .plan_file import path_as_json, path_of, seen_as_json, seen_of
from .plans import Action
from .seen import Seen

__all__ = ["Entry", "Journal", "Read", "read_journal"]

_VERSION = 1


@dataclass
class Entry:
    """One step of an undo file."""

    action: Action
    file: Seen
    to: str | None = None
    """Where it is moved."""
    kept: Seen | None = None
    """Of which file it becomes another name."""
    metadata: Metadata | None = None
    """What belonged to it then."""
    temporary: str | None = None
    folders: tuple[str, ...] = ()
    """Made for it, the outermost first."""
    settled: bool = False
    """Whether nothing is to be brought back: it failed, or was brought back."""


class Read(NamedTuple):
    """What an undo file holds."""

    entries: dict[int, Entry]
    temporaries: list[str]
    """Names that files had while they were brought back."""
    unreadable: list[int]
    """Numbers of lines that cannot be read; the last one is none of them, which a process may not have finished."""


class Journal:
    """An undo file that is being written; it comes to be with its first line.

    Parameters
    ----------
    path : path
        FileExistsError where something has that name, unless it is to be `continued`.
    continued : bool
        Whether it is there, and lines are appended.
    """

    def __init__(self, path: str | os.PathLike[str], *, continued: bool = False) -> None:
        self.path = os.fspath(path)
        self._continued = continued
        self._file: int | None = None
        self._count = 0
        self.begun = False
        """Whether there is anything in it."""

    def intend(self, entry: Entry) -> int:
        """Write down what is to be done, through to the disk; return the number by which `settle` knows it."""
        self._count += 1
        line: dict[str, Any] = {"step": self._count, "action": entry.action, "file": seen_as_json(entry.file)}
        if entry.to is not None:
            line["to"] = path_as_json(entry.to)
        if entry.kept is not None:
            line["kept"] = seen_as_json(entry.kept)
        if entry.metadata is not None:
            line["metadata"] = entry.metadata.as_json()
        if entry.temporary is not None:
            line["temporary"] = path_as_json(entry.temporary)
        if entry.folders:
            line["folders"] = [*map(path_as_json, entry.folders)]
        self._append(line)
        return self._count

    def settle(self, number: int, how: str) -> None:
        """Write down how a step ended: ``"done"``, ``"failed"`` or ``"undone"``; where that fails nothing is lost."""
        with contextlib.suppress(OSError):
            self._append({how: number}, through=False)

    def name(self, temporary: str) -> None:
        """Write down a name that a file is about to have for a moment; where that fails nothing is lost."""
        with contextlib.suppress(OSError):
            self._append({"temporary": path_as_json(temporary)}, through=False)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, line: dict[str, Any], *, through: bool = True) -> None:
        if self._file is None:
            self._open()
        assert self._file is not None
        self._write(self._file, json.dumps(line).encode() + b"\n", through=through)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
        if self._continued:
            self._file = os.open(self.path, flags)
            self.begun = True
            os.ftruncate(self._file, _end_of_lines(self.path))  # without a line that was not finished
            return
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self._write(file, json.dumps({"pyhash": "undo", "version": _VERSION}).encode() + b"\n", through=True)
        except BaseException:
            os.close(file)
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            raise
        files.sync(Path(self.path).parent)
        self._file, self.begun = file, True

    @staticmethod
    def _write(file: int, text: bytes, *, through: bool) -> None:
        """Write a line, or nothing of it."""
        before = os.fstat(file).st_size
        try:
            while text:
                text = text[os.write(file, text) :]
            if through:
                os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, before)
            raise


def read_journal(path: str | os.PathLike[str]) -> Read:
    """Read an undo file; PlanError where it is none, or of a later pyhash."""
    name = os.fspath(path)
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    if lines == [b""]:  # killed before anything was written, and so before anything was done
        return Read({}, [], [])
    first = _parsed(lines[0])
    if first is None or first.get("pyhash") != "undo":
        raise PlanError(f"{name} is no undo file of pyhash: it does not say so")
    if first.get("version") != _VERSION:
        raise PlanError(
            f"{name} is an undo file of version {first.get('version')!r}; this pyhash reads version {_VERSION}"
        )
    entries: dict[int, Entry] = {}
    temporaries: list[str] = []
    unreadable = []
    last = max((number for number, line in enumerate(lines) if line), default=0)
    for number, line in enumerate(lines[1:], 1):
        if line and not _take(_parsed(line), entries, temporaries) and (number < last or lines[-1] == b""):
            unreadable.append(number + 1)
    return Read(entries, temporaries, unreadable)


def _take(read: dict[str, Any] | None, entries: dict[int, Entry], temporaries: list[str]) -> bool:
    """Take in one line; False where it cannot be read."""
    try:
        if read is None:
            return False
        if "step" in read:
            entries[int(read["step"])] = _entry_of(read)
        elif "temporary" in read:
            temporaries.append(path_of(read["temporary"]))
        else:
            ((how, number),) = read.items()
            entries[number].settled |= {"done": False, "failed": True, "undone": True}[how]
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _entry_of(read: dict[str, Any]) -> Entry:
    action = read["action"]
    if action not in get_args(Action):
        raise ValueError(action)
    return Entry(
        action,
        seen_of(read["file"]),
        path_of(read["to"]) if "to" in read else None,
        seen_of(read["kept"]) if "kept" in read else None,
        Metadata.of_json(read["metadata"]) if "metadata" in read else None,
        path_of(read["temporary"]) if "temporary" in read else None,
        tuple(map(path_of, _listed(read.get("folders", ())))),
    )


def _listed(value: Any) -> Iterable[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(value)
    return value


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(line)
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


def _end_of_lines(path: str) -> int:
    with open(path, "rb") as file:
        return file.read().rfind(b"\n") + 1
