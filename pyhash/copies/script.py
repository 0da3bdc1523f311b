"""A plan as a shell script, to be read before it is run."""

from __future__ import annotations

import os
import shlex

from ..support import files, many, printable
from .plans import Plan, Step, places

__all__ = ["write_script"]

_MARK = "# A plan of pyhash as a shell script"
_HEAD = """\
#!/bin/sh
{mark}: {count}.
# Read it, take out what you do not want, then run it:  sh {name}
# Each line names the image that is kept, the file that goes, and what both were: bytes and BLAKE2b.
# A file is left, and named, where one of the two is not what it was, where one is a link, and where both are one file.
# There is no undo: pyhash dedupe --move-to and --trash have one.

failed=0
left() {{ printf 'left: %s (%s)\\n' "$1" "$2" >&2; failed=1; }}
if [ -n "$(b2sum -l 128 < /dev/null 2> /dev/null)" ]; then
  what() {{ printf '%s:%s' "$(wc -c < "$1" | tr -d ' ')" "$(b2sum -l 128 < "$1" | cut -d ' ' -f 1)"; }}
  was() {{ printf '%s' "$1"; }}
else
  echo "b2sum of GNU coreutils is not here: sizes alone are compared" >&2
  what() {{ wc -c < "$1" | tr -d ' '; }}
  was() {{ printf '%s' "${{1%%:*}}"; }}
fi
allowed() {{  # KEPT FILE WHAT-KEPT WHAT-FILE
  if [ -L "$1" ] || [ ! -f "$1" ] || [ "$(what "$1")" != "$(was "$3")" ]; then left "$2" "$1 is not what it was"
  elif [ -L "$2" ] || [ ! -f "$2" ] || [ "$(what "$2")" != "$(was "$4")" ]; then left "$2" "it is not what it was"
  elif [ "$1" -ef "$2" ]; then left "$2" "it is another name of the one kept"
  else return 0
  fi
  return 1
}}
{functions}
"""
_FUNCTIONS = {
    None: """\
remove() {  # KEPT FILE WHAT-KEPT WHAT-FILE
  allowed "$@" || return 0
  rm -- "$2" || failed=1
}
""",
    "move": """\
move() {  # KEPT FILE WHAT-KEPT WHAT-FILE TO
  allowed "$@" || return 0
  if [ -e "$5" ] || [ -L "$5" ]; then left "$2" "there is something at $5"; return 0; fi
  { mkdir -p -- "$(dirname -- "$5")" && mv -- "$2" "$5"; } || failed=1
}
""",
    "hardlink": """\
hardlink() {  # KEPT FILE WHAT-KEPT WHAT-FILE
  allowed "$@" || return 0
  if ! cmp -s -- "$1" "$2"; then left "$2" "its bytes are not those of the one kept"; return 0; fi
  { ln -- "$1" "$2.pyhash-link" && mv -f -- "$2.pyhash-link" "$2"; } || failed=1
}
""",
}


def write_script(plan: Plan, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a shell script that does what a plan says, whole or not at all; where no action is said it removes files.

    Raises
    ------
    ValueError
        When a step is to put its file into the trash, which no script can do everywhere.
    ForeignFileError
        When a file is there that is no such script.
    """
    kinds = {step.action for step in plan.steps}
    if "trash" in kinds:
        raise ValueError("a script cannot put files into the trash: leave the action out, or move them")
    functions = "\n".join(text for kind, text in _FUNCTIONS.items() if kind in kinds)
    head = _HEAD.format(
        mark=_MARK,
        count=many(len(plan.steps), "file"),
        name=printable(shlex.quote(os.fspath(path))),
        functions=functions,
    )
    lines = [_line(step, target) for step, target in places(plan)]
    text = "\n".join((head, *lines, "", "exit $failed", ""))
    files.write(path, [os.fsencode(text)], [_MARK.encode()], overwrite=overwrite)


def _line(step: Step, target: str | None) -> str:
    file, kept = step.file, step.kept
    what = [f"{seen.size}:{seen.digest.hex()}" for seen in (kept, file)]
    values = [kept.path, file.path, *what, *([] if target is None else [target])]
    return f"{step.action or 'remove'} {' '.join(map(shlex.quote, values))}  # kept: {printable(step.why)}"
