"""Bringing a gallery up to date with its folder: walk, encode, store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import GalleryError
from ..images import FoundImage, Walk, walk
from .encoders import GalleryEncoder, identity_of
from .records import Record
from .store import GalleryFile

_COMMIT_IMAGES = 64
_COMMIT_SECONDS = 2.0

Progress = Callable[[int, int], None]


class Failure(NamedTuple):
    """An image or a subfolder that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True)
class Changes:
    """What `Gallery.update` found; the images in the folder are added + changed + unchanged + failed."""

    added: int
    changed: int
    removed: int
    unchanged: int
    failed: list[Failure]
    """Everything that cannot be searched, those known to be bad from an earlier run included."""


def update(file: GalleryFile, folder: str, encoder: GalleryEncoder, progress: Progress | None) -> Changes:
    """Do what `Gallery.update` promises."""
    found = _look(folder)
    failed = [Failure(error.path, error.reason) for error in found.failed]
    with file.reading():
        known = file.known()
    present = {image.path for image in found.images}
    # What lies under a subfolder that could not be listed is out of sight, not gone.
    gone = [row.id for path, row in known.items() if path not in present and not path.startswith(found.hidden)]
    todo, unchanged = [], 0
    for image in found.images:
        row = known.get(image.path)
        if row is None or image[1:] != (row.size, row.mtime_ns) or not (row.has_code or row.error):
            todo.append(image)
        elif row.has_code:
            unchanged += 1
        else:
            failed.append(Failure(join(folder, image.path), str(row.error)))
    with file.writing(identity_of(encoder, folder)):
        file.remove(gone)
    added, changed = _encode(file, folder, encoder, todo, known.keys(), failed, progress)
    return Changes(added, changed, len(gone), unchanged, sorted(failed))


def join(folder: str, path: str) -> str:
    """Return the path in the file system of one inside the folder."""
    return os.path.join(folder, "") + path.replace("/", os.sep)


def _look(folder: str) -> Walk:
    try:
        return walk(folder)
    except OSError as error:
        raise GalleryError(f"the folder {folder} cannot be read: {error.strerror}") from error


def _encode(
    file: GalleryFile,
    folder: str,
    encoder: GalleryEncoder,
    todo: list[FoundImage],
    known: Container[str],
    failed: list[Failure],
    progress: Progress | None,
) -> tuple[int, int]:
    """Encode and store, a transaction every few images; also those finished before an exception."""
    if progress is not None:
        progress(0, len(todo))
    counts = {False: 0, True: 0}  # by whether the image was known
    identity = identity_of(encoder, folder)
    pending: list[Record] = []
    committed = time.monotonic()

    def commit() -> None:
        if pending:
            with file.writing(identity):
                file.put(pending)
            pending.clear()

    try:
        stream = encoder.stream([join(folder, image.path) for image in todo]) if todo else ()
        for done, (image, encoded) in enumerate(zip(todo, stream, strict=True), 1):
            code = reason = None
            mtime_ns = image.mtime_ns
            if encoded.error is not None:
                path, reason = join(folder, image.path), encoded.error.reason
                failed.append(Failure(path, reason))
                if not _can_be_read(path):
                    mtime_ns = -1  # not the content's fault, and mending it changes no time: look again next time
            else:
                code = np.asarray(encoded.code, np.uint8).tobytes()
                counts[image.path in known] += 1
            pending.append(Record(image.path, image.size, mtime_ns, code, reason))
            if len(pending) >= _COMMIT_IMAGES or time.monotonic() - committed >= _COMMIT_SECONDS:
                commit()
                committed = time.monotonic()
            if progress is not None:
                progress(done, len(todo))
    finally:
        commit()
    return counts[False], counts[True]


def _can_be_read(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError:
        return False
    return True
