"""An HTML page on which a person looks at groups of copies, says what stays, and saves that as a plan.

One file that needs nothing else. Its groups lie in it as JSON, in blocks of a page each, and only the page that is
looked at is shown. What a plan needs of a file lies there as the text that the plan gets, for 64 bits of a number are
more than a browser keeps. Names are put in as text alone.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..copies import Choice, Copy, Level, Option, Plan, inside_of, is_proved, plan_as_json, seen_as_json
from ..support import files, printable, require, size
from .sheet import MARKS, link_to, thumbnail

__all__ = ["write_review"]

_A_PAGE = 20
"""So many groups are shown at once."""
_SURE = 0.95
"""Above it nothing is said of how sure a copy is."""
_SAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def write_review(
    path: str | os.PathLike[str],
    choices: Sequence[Choice],
    plan: Plan,
    *,
    folders: Sequence[str],
    facts: Mapping[str, str],
    thumbnails: Callable[[Copy], bytes | None],
    date: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write groups of copies as one HTML file, on which a person says what stays.

    Parameters
    ----------
    path : path
        The file to write; it appears whole or not at all.
    choices : sequence of Choice
        Groups, and what can be done with their images; of duplicates what is kept is ticked.
    plan : Plan
        In whose folders something may be done; its steps do not matter.
    folders : sequence of str
        Of paths under them only the part inside is shown.
    facts : mapping of str to str
        Shown under the heading.
    thumbnails : callable
        Gives a small JPEG of an image, or None; then it is made of the file.
    date : str, optional
        By default now.
    overwrite : bool
        Replace a file that is no such page, too.

    Raises
    ------
    ImportError
        When Jinja2 or Pillow is not installed.
    ForeignFileError
        When a file is there that is no such page.
    """
    files.check_target(path, MARKS, overwrite=overwrite)  # better said before the images are read
    target = os.path.abspath(Path(path).parent)
    jinja2 = require("jinja2", "cli")
    loader = jinja2.PackageLoader("pyhash.pages", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    script: str = loader.get_source(environment, "review.js")[0]
    levels: dict[Level, list[Choice]] = {
        level: [choice for choice in choices if choice.group.level == level] for level in ("duplicates", "similar")
    }

    def blocks() -> Iterator[tuple[str, str]]:
        for level, of_level in levels.items():
            for number, start in enumerate(range(0, len(of_level), _A_PAGE)):
                shown = [_shown(choice, folders, target, thumbnails) for choice in of_level[start : start + _A_PAGE]]
                yield f"{level}-{number}", _json(shown)

    sums = {level: [*map(_summed, of_level)] for level, of_level in levels.items()}
    pieces = environment.get_template("review.html").generate(
        facts={name: printable(value) for name, value in facts.items()},
        counts={level: len(of_level) for level, of_level in levels.items()},
        about=_json({"sums": sums, "page": _A_PAGE, "around": _around(plan), "key": _key(choices)}),
        blocks=blocks(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        date=date or datetime.datetime.now().strftime("%d %B %Y, %H:%M").lstrip("0"),
    )
    files.write(path, (piece.encode() for piece in pieces), MARKS, overwrite=overwrite)


def _around(plan: Plan) -> list[str]:
    """The text of a plan before its steps and after them."""
    text = json.dumps(plan_as_json(Plan(plan.folders, (), None, plan.reference)), indent=1)
    before, steps, after = text.rpartition('"steps": []')
    return [f"{before}{steps[:-1]}", f"]{after}"]


def _key(choices: Sequence[Choice]) -> str:
    """What tells this page from others, so that a browser remembers what was said on it."""
    told = hashlib.blake2b(digest_size=8)
    for choice in choices:
        for option in choice.options:
            told.update(os.fsencode(option.copy.path) + b"\0" + (option.copy.digest or b""))
    return told.hexdigest()


def _summed(choice: Choice) -> dict[str, Any]:
    """What is to be known of a group before it is shown: letters of its images, s for stays and g for goes."""
    return {
        "kept": choice.kept,
        "start": "".join("g" if _goes(choice, option) else "s" for option in choice.options),
        "locked": "".join("l" if option.locked else "-" for option in choice.options),
        "bytes": [option.copy.n_bytes for option in choice.options],
    }


def _goes(choice: Choice, option: Option) -> bool:
    """Whether an image is not ticked at first: a duplicate that may go, proved to be a copy of the one that stays."""
    if choice.group.level != "duplicates" or choice.kept is None or option.locked:
        return False
    kept = choice.options[choice.kept]
    return option is not kept and kept.seen is not None and is_proved(option, kept)


def _shown(
    choice: Choice, folders: Sequence[str], target: str, thumbnails: Callable[[Copy], bytes | None]
) -> dict[str, Any]:
    sharpest = max((option.copy.sharpness or 0.0 for option in choice.options), default=0.0)
    return {
        "why": choice.why,
        "images": [_image(option, folders, target, thumbnails, sharpest) for option in choice.options],
    }


def _image(
    option: Option, folders: Sequence[str], target: str, thumbnails: Callable[[Copy], bytes | None], sharpest: float
) -> dict[str, Any]:
    copy = option.copy
    where, name = os.path.split(inside_of(copy.path, folders)[1])
    notes = [copy.relation, *copy.differs] if copy.relation != "best" else []
    if copy.certainty < _SURE:
        notes.append(f"{copy.certainty:.0%} sure")
    if copy.joined_by:
        notes.append(f"joined by {printable(os.path.basename(copy.joined_by))} alone")
    return {
        "name": printable(name),
        "where": printable(where),
        "path": printable(copy.path),
        "link": link_to(copy.path, target),
        "thumbnail": _thumbnail(copy, thumbnails),
        "facts": {
            "pixels": "" if copy.width is None else f"{copy.width:,} x {copy.height:,}",
            "size": size(copy.n_bytes),
            "written": _date(copy.mtime_ns),
            "format": copy.format or "",
            "sharpness": "" if copy.sharpness is None or not sharpest else f"{copy.sharpness / sharpest:.0%}",
        },
        "notes": [*map(printable, notes)],
        "locked": printable(option.locked),
        "seen": None if option.seen is None else json.dumps(seen_as_json(option.seen)),
    }


def _thumbnail(copy: Copy, thumbnails: Callable[[Copy], bytes | None]) -> str | None:
    small = thumbnails(copy)
    if small is not None:
        return "data:image/jpeg;base64," + base64.b64encode(small).decode("ascii")
    return None if copy.away else thumbnail(copy.path)[0]


def _date(mtime_ns: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(mtime_ns // 10**9).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return ""


def _json(value: Any) -> str:
    """JSON that can lie in a script's element."""
    return json.dumps(value, separators=(",", ":")).translate(_SAFE)
