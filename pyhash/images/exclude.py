"""What a walk leaves out: folders that systems make, and what the user's patterns name."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import PatternError
from .globs import as_regex

__all__ = ["IGNORE_FILE", "Patterns", "check_patterns", "is_left_out", "patterns_of", "read_patterns"]

IGNORE_FILE = ".pyhashignore"

# In small letters: systems do not agree on the case. Names that begin with a dot are left out anyway.
# fmt: off
_SYSTEM_FOLDERS = frozenset({
    "@eadir", "#recycle", "#snapshot", "@sharebin", "@tmp",                    # Synology
    "@recycle", "@recently-snapshot", "@transcode",                            # QNAP
    "$recycle.bin", "recycler", "system volume information", "found.000",      # Windows
    "__macosx", "network trash folder", "temporaryitems",                      # macOS
    "lost+found",                                                              # Linux
    "~snapshot",                                                               # NetApp
    "files_trashbin", "files_versions",                                        # Nextcloud, ownCloud
    "thumbs", "thmbnl",                                                        # immich and others; Sony's cameras
})
# fmt: on
_SYSTEM_STARTS = ("appdata_",)  # Nextcloud's previews
_SYSTEM_ENDS = (".lrdata",)  # Lightroom's previews
_LIBRARIES = (".photoslibrary", ".photolibrary", ".aplibrary", ".migratedphotolibrary")
_IN_LIBRARIES = frozenset({"resources", "thumbnails", "previews", "database", "scopes", "private"})


class _Pattern(NamedTuple):
    name: str
    """Its last part, in small letters."""
    matches: re.Pattern[str]
    folders_only: bool
    excludes: bool
    """False: it begins with an exclamation mark, and takes back what others exclude."""


class Patterns(NamedTuple):
    """Patterns of one place, for what lies in the folder there and under it."""

    base: str
    """Of that folder inside the one that is walked, ending in a slash; empty for itself."""
    patterns: list[_Pattern]

    def last(self, path: str) -> _Pattern | None:
        """The pattern that decides about a path inside the folder that is walked; that of a folder ends in a slash."""
        inside = path[len(self.base) :]
        plain = inside.removesuffix("/")
        for pattern in reversed(self.patterns):
            if (plain != inside or not pattern.folders_only) and pattern.matches.fullmatch(plain):
                return pattern
        return None


def is_left_out(path: str, rules: Iterable[Patterns]) -> bool:
    """Whether a file or folder (ending in a slash) is left out, none of the folders around it being so.

    The first of the rules with a pattern for it decides, by the last such pattern. Folders that systems make are left
    out, too, unless a pattern takes them back by their name.
    """
    decided = next((pattern for pattern in (some.last(path) for some in rules) if pattern is not None), None)
    if decided is not None and decided.excludes:
        return True
    if not path.endswith("/"):
        return False
    name = path[:-1].rpartition("/")[2].lower()
    return _of_system(path) and not (decided is not None and decided.name == name)


def _of_system(path: str) -> bool:
    around, _, name = path[:-1].lower().rpartition("/")
    return (
        name in _SYSTEM_FOLDERS
        or name.startswith(_SYSTEM_STARTS)
        or name.endswith(_SYSTEM_ENDS)
        or (name in _IN_LIBRARIES and around.endswith(_LIBRARIES))
    )


def check_patterns(patterns: object) -> list[str]:
    """Return what a caller wants to exclude as a list; PatternError names a pattern that is wrong.

    Raises
    ------
    TypeError
        When it is not a sequence of text.
    PatternError
    """
    if isinstance(patterns, (str, bytes)) or not isinstance(patterns, Iterable):
        raise TypeError(f"exclude must be a sequence of patterns, got {patterns!r}")
    listed = list(patterns)
    for pattern in listed:
        if not isinstance(pattern, str):
            raise TypeError(f"exclude must be a sequence of patterns, text each, got {pattern!r}")
    patterns_of(listed)
    return listed


def patterns_of(lines: Sequence[str]) -> Patterns:
    """Return the patterns that a caller gave; a number sign begins no comment here."""
    return Patterns("", [_compile(line, f"the pattern {line!r}") for line in lines])


def read_patterns(file: str, base: str) -> Patterns:
    """Read an ignore file, for the folder `base`.

    Raises
    ------
    PatternError
        When it cannot be read, or holds a pattern that is wrong.
    """
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise PatternError(f"{file} is not a regular file")
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            lines = stream.read().split("\n")
    except OSError as error:
        raise PatternError(f"{file} cannot be read: {error.strerror}") from error
    patterns = []
    for number, line in enumerate(lines, 1):
        text = line.removesuffix("\r")
        while text.endswith(" ") and not text.endswith("\\ "):
            text = text[:-1]
        if text and not text.startswith("#"):
            patterns.append(_compile(text, f"{file}, line {number}: the pattern {text!r}"))
    return Patterns(base, patterns)


def _compile(text: str, what: str) -> _Pattern:
    bare = text.removeprefix("!")
    plain = bare.removesuffix("/")
    try:
        matches = as_regex(plain)
    except ValueError as error:
        raise PatternError(f"{what} is wrong: {error}") from error
    return _Pattern(plain.rpartition("/")[2].lower(), matches, plain != bare, bare == text)
