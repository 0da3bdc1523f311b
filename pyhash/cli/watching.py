"""Waiting for changes in folders, for ``pyhash index --watch``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..support import require

_SETTLE_MS = 1600  # a camera's files come one after another: they are waited for this long together

_LOOK_SECONDS = 20.0
"""A look is taken so often though nothing was told, or so seldom that it takes a twentieth of the time: other machines
tell nothing of what they change on a disk, and systems lose a change now and then."""
_LOOK_SHARE = 20


def changes_under(folders: Iterable[str], gallery: Path) -> Iterator[None]:
    """Yield once when the watch has begun, then after changes under the folders and now and then, until Ctrl-C.

    That a folder goes or comes, as with a disk that is taken away or put back, is a change. Names that begin with a dot
    and the gallery's own files do not count.
    """
    watchfiles = require("watchfiles", "watch")
    roots, own = [*map(os.path.realpath, folders)], os.path.realpath(gallery)

    def counts(_: object, path: str) -> bool:
        root = next((root for root in roots if path.startswith(os.path.join(root, ""))), os.sep)
        parts = os.path.relpath(path, root).split(os.sep)
        return not path.startswith(own) and not any(part.startswith(".") for part in parts)

    other, due = True, time.monotonic()  # what came before the watch began is not told
    try:
        while other:
            other, seen = False, [*map(_identity, roots)]
            for changes in watchfiles.watch(
                *filter(os.path.isdir, roots),
                watch_filter=counts,
                debounce=_SETTLE_MS,
                rust_timeout=500,
                yield_on_timeout=True,
            ):
                other = [*map(_identity, roots)] != seen
                if changes or other or time.monotonic() >= due:
                    begun = time.monotonic()
                    yield
                    due = time.monotonic() + max(_LOOK_SECONDS, _LOOK_SHARE * (time.monotonic() - begun))
                if other:  # what was watched is not there any more
                    break
    except KeyboardInterrupt:
        return


def _identity(folder: str) -> tuple[int, int] | None:
    """What tells a folder from one that takes its place: None where there is none."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
