"""Which files of a folder are left out, told slowly: every file anew, a character at a time, by recursion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def kept(files: Sequence[str], given: Sequence[str], ignore: Mapping[str, Sequence[str]]) -> list[str]:
    """The files that no pattern excludes: those given, and those of the folders' ignore files (keys end in a slash)."""
    places = [("", given), *sorted(ignore.items(), key=lambda item: -item[0].count("/"))]
    return [file for file in files if not any(_excluded(path, places) for path in _down_to(file))]


def _down_to(file: str) -> list[str]:
    """The folders around a file, the outermost first, each with its slash, and the file."""
    parts = file.split("/")
    return ["/".join(parts[:end]) + "/" for end in range(1, len(parts))] + [file]


def _excluded(path: str, places: Sequence[tuple[str, Sequence[str]]]) -> bool:
    for base, lines in places:
        if path.startswith(base) and path != base:
            for line in reversed(lines):
                bare = line.removeprefix("!")
                if (not bare.endswith("/") or path.endswith("/")) and _matches(
                    bare.removesuffix("/"), path[len(base) :]
                ):
                    return bare == line
    return False


def _matches(pattern: str, path: str) -> bool:
    names = path.removesuffix("/").split("/")
    if "/" not in pattern:
        return pattern == "**" or _name_matches(pattern, names[-1])
    return _parts_match(pattern.removeprefix("/").split("/"), names)


def _parts_match(parts: list[str], names: list[str]) -> bool:
    if not parts:
        return not names
    if parts == ["**"]:
        return len(names) > 0
    if parts[0] == "**":
        return any(_parts_match(parts[1:], names[start:]) for start in range(len(names) + 1))
    return bool(names) and _name_matches(parts[0], names[0]) and _parts_match(parts[1:], names[1:])


def _name_matches(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return _name_matches(pattern[1:], name) or (name != "" and _name_matches(pattern, name[1:]))
    if not name:
        return False
    if pattern[0] == "[":
        inside, _, rest = pattern[1:].partition("]")
        negated = inside.startswith("!")
        return (name[0] in inside.removeprefix("!")) != negated and _name_matches(rest, name[1:])
    if pattern[0] == "\\":
        return pattern[1] == name[0] and _name_matches(pattern[2:], name[1:])
    return pattern[0] in ("?", name[0]) and _name_matches(pattern[1:], name[1:])
