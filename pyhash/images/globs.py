"""Patterns of ``.gitignore`` as regular expressions.

Sources: the pages gitignore(5) and glob(7) of the manual. Other than git's, a question mark and brackets stand for one
character, not for one byte, and what can match nothing is an error.
"""

from __future__ import annotations

import re

__all__ = ["as_regex"]

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r"\ \t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def as_regex(pattern: str) -> re.Pattern[str]:
    """Return what matches the paths that a pattern does, as a whole.

    Parameters
    ----------
    pattern : str
        Without an exclamation mark at its beginning, and without the slash at its end that asks for a folder.

    Raises
    ------
    ValueError
        When no path could match; the message says why.
    """
    parts = pattern.removeprefix("/").split("/")
    if "" in parts:
        raise ValueError("it names nothing")
    if "." in parts or ".." in parts:
        raise ValueError("it goes by the names inside the folder, without . and ..")
    if "/" not in pattern:
        parts.insert(0, "**")
    runs: list[list[str]] = [[]]
    for part in parts:
        if part != "**":
            runs[-1].append(_of_name(part))
        elif runs[-1] or len(runs) == 1:
            runs.append([])
    first, *others = ("/".join(run) for run in runs)
    regex = first
    if others:
        *middle, last = others
        regex += "/" * bool(first) + "".join(f"(?>(?:[^/]+/)*?{run}/)" for run in middle)
        regex += f"(?:[^/]+/)*{last}" if last else ".+"
    return re.compile(regex, re.DOTALL)


# Of several stars each but the last takes as little as it can, once and for all (?>): what lies between two of them
# has one length, so the first place where it fits is as good as any. Without that some names would take years.


def _of_name(part: str) -> str:
    runs, at = [""], 0
    while at < len(part):
        char, at = part[at], at + 1
        if char == "*":
            runs += [""] * bool(runs[-1] or len(runs) == 1)
        elif char == "?":
            runs[-1] += "[^/]"
        else:
            one, at = _of_brackets(part, at) if char == "[" else _literal(char, part, at)
            runs[-1] += one
    first, *others = runs
    if not others:
        return first
    *middle, last = others
    return first + "".join(f"(?>[^/]*?{run})" for run in middle) + "[^/]*" + last


def _literal(char: str, part: str, at: int) -> tuple[str, int]:
    """Return a character as it is, or the one behind a backslash, and where it goes on."""
    if char != "\\":
        return re.escape(char), at
    if at == len(part):
        raise ValueError("there is nothing behind its backslash; folders end in /")
    return re.escape(part[at]), at + 1


def _of_brackets(part: str, at: int) -> tuple[str, int]:
    """Return what stands for one character, and where it goes on; `at` is behind the opening bracket."""
    negated = part[at : at + 1] in ("!", "^")
    at += negated
    first, inside = at, ""
    while part[at : at + 1] != "]" or at == first:
        if at >= len(part):
            raise ValueError("its brackets are not closed")
        if part.startswith("[:", at) and ":]" in part[at:]:
            name, at = part[at + 2 : part.index(":]", at)], part.index(":]", at) + 2
            if name not in _CLASSES:
                raise ValueError(f"there is no [:{name}:]; there are {', '.join(_CLASSES)}")
            inside += _CLASSES[name]
            continue
        low, at = _literal(part[at], part, at + 1)
        inside += low
        if part[at : at + 1] == "-" and part[at + 1 : at + 2] not in ("", "]"):
            high, at = _literal(part[at + 1], part, at + 2)
            if low[-1] > high[-1]:
                raise ValueError(f"{low[-1]} comes after {high[-1]}")
            inside += "-" + high
    return (f"[^/{inside}]" if negated else f"(?!/)[{inside}]"), at + 1
