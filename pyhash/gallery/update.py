"""Bringing a gallery up to date with its folder: walk, encode, store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import GalleryError
from ..heads import CollectionHead
from ..images import FoundImage, Walk, walk
from ..ranking import quantize
from .adapt import Adapted, settle
from .asking import digest_of
from .collection import restored
from .encoders import GalleryEncoder, embeds, identity_of, stream
from .records import Embedding, Known, Record
from .snapshot import Snapshots
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
    adapted: Adapted | None = None
    """How the gallery adapted to its images; None where there was nothing to do."""


def update(
    file: GalleryFile, snapshots: Snapshots, folder: str, encoder: GalleryEncoder, progress: Progress | None
) -> Changes:
    """Do what `Gallery.update` promises."""
    identity = identity_of(encoder, folder)
    found = _look(folder)
    failed = [Failure(error.path, error.reason) for error in found.failed]
    with file.reading():
        known, wishes = file.known(), file.wishes()
    keeps = wishes.embeddings and embeds(encoder)
    present = {image.path for image in found.images}
    # What lies under a subfolder that could not be listed is out of sight, not gone.
    gone = [row.id for path, row in known.items() if path not in present and not path.startswith(found.hidden)]
    todo, unchanged = [], 0
    for image in found.images:
        row = known.get(image.path)
        if row is None or image[1:] != (row.size, row.mtime_ns) or _lacks(row, keeps):
            todo.append(image)
        elif row.has_code:
            unchanged += 1
        else:
            failed.append(Failure(join(folder, image.path), str(row.error)))
    with file.writing(identity):
        file.remove(gone)
    added, changed = _encode(file, folder, encoder, todo, known.keys(), failed, progress, keeps)
    adapted = None
    if keeps and wishes.adapt:
        adapted = settle(file, snapshots, identity, wishes.levels or encoder.levels)
    return Changes(added, changed, len(gone), unchanged, sorted(failed), adapted)


def _lacks(row: Known, keeps_embedding: bool) -> bool:
    """Whether an image has to be encoded though it has not changed."""
    return not row.error and not (row.has_code and (row.has_embedding or not keeps_embedding))


def _coded(file: GalleryFile, records: list[Record]) -> list[Record]:
    """Return what is stored, with codes by the head that was fitted on the collection, where there is one."""
    stored = file.vectors.head()
    fresh = [record for record in records if record.embedding is not None]
    if stored is None or stored.matrix is None or not fresh:
        return records
    head = CollectionHead.from_bytes(stored.matrix)
    embeddings = [record.embedding for record in fresh if record.embedding is not None]
    vectors = np.stack([np.frombuffer(embedding.vector, np.int8) for embedding in embeddings])
    rows = restored(vectors, np.array([embedding.norm for embedding in embeddings], np.float32))
    codes = {record.path: code.tobytes() for record, code in zip(fresh, head.codes(rows), strict=True)}
    return [record._replace(code=codes.get(record.path, record.code)) for record in records]


def stored_embedding(embedding: NDArray[np.float32] | None) -> Embedding:
    """Return an embedding as it is stored."""
    assert embedding is not None
    vectors, norms = quantize(embedding[None])
    return Embedding(vectors.tobytes(), float(norms[0]))


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
    keeps: bool,
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
                file.put(_coded(file, pending))
            pending.clear()

    try:
        paths = [join(folder, image.path) for image in todo]
        rows = stream(encoder, paths, embeddings=keeps) if todo else ()
        for done, (image, encoded) in enumerate(zip(todo, rows, strict=True), 1):
            code = reason = embedding = None
            mtime_ns = image.mtime_ns
            if encoded.error is not None:
                path, reason = join(folder, image.path), encoded.error.reason
                failed.append(Failure(path, reason))
                if not _can_be_read(path):
                    mtime_ns = -1  # not the content's fault, and mending it changes no time: look again next time
            else:
                code = np.asarray(encoded.code, np.uint8).tobytes()
                if keeps:
                    embedding = stored_embedding(encoded.embedding)
                counts[image.path in known] += 1
            digest = digest_of(join(folder, image.path)) if embedding is not None else None
            pending.append(Record(image.path, image.size, mtime_ns, code, reason, embedding, digest))
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
