"""Bringing a gallery up to date with its folder: walk, encode, store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import GalleryError
from ..heads import CollectionHead
from ..images import FoundImage, Walk, walk
from ..ranking import quantize
from .adapt import Adapted, Plan, settle
from .asking import digest_of
from .collection import restored
from .encoders import GalleryEncoder, embeds, identity_of, is_plain, levels_of, spread_of, stream_all
from .kinship import Kinship
from .records import Embedding, Identity, Known, Record
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
    again: dict[str, int] = field(default_factory=dict)
    """How many of the changed were encoded again though their files are the same, by what is another: the encoder's
    ``"network"``, the ``"decoder"`` that makes pixels of files, or that their ``"embeddings"`` were not kept."""
    adapted: Adapted | None = None
    """How the gallery adapted to its images; None where there was nothing to do."""


def update(
    file: GalleryFile,
    snapshots: Snapshots,
    folder: str,
    encoder: GalleryEncoder,
    progress: Progress | None,
    wished: Mapping[str, Any],
    *,
    proved: bool = False,
) -> Changes:
    """Do what `Gallery.update` promises; fields of `Wishes` that are `wished` now are noted.

    `proved` says that the encoder makes the codes that there are, though its fingerprint is another.
    """
    identity = identity_of(encoder, folder)
    found = _look(folder)
    failed = [Failure(error.path, error.reason) for error in found.failed]
    present = {image.path for image in found.images}
    with file.reading():
        wishes, kin, stored = file.wishes()._replace(**wished), file.kinship(identity), file.identity() or identity
    can = embeds(encoder)
    if wishes.levels is not None and not (can and wishes.embeddings) and wishes.levels != stored.levels:
        raise GalleryError(
            f"the codes cannot have the levels {wishes.levels}: that takes a head fitted on embeddings, which the "
            f"encoder {encoder.name!r} does not give or which are not kept; leave levels (--bits) out"
        )
    renewed = not proved and kin in (Kinship.HEAD, Kinship.RENEWED)
    with file.writing(identity, rebuild=renewed, proved=proved):
        known = file.known()
        # What lies under a subfolder that could not be listed is out of sight, not gone.
        gone = [row.id for path, row in known.items() if path not in present and not path.startswith(found.hidden)]
        file.remove(gone)
        if wished:
            file.wish(wishes)
        if not wishes.embeddings:
            file.vectors.forget_vectors()
    keeps = wishes.embeddings and can
    if is_plain(encoder) and not any(row.has_embedding for row in known.values()):
        # A gallery of codes alone, of a network of the user's own, goes on as it is.
        keeps = keeps and not any(row.has_code for row in known.values())
    todo, unchanged = [], 0
    again = dict.fromkeys(("network", "decoder", "embeddings"), 0)
    for image in found.images:
        row = known.get(image.path)
        why = _why_again(row, identity, keeps, renewed) if row is not None and same_file(image, row) else "changed"
        if why is not None:
            todo.append(image)
            if why in again:
                again[why] += 1
        elif row is not None and row.has_code:
            unchanged += 1
        elif row is not None:
            failed.append(Failure(join(folder, image.path), str(row.error)))
    added, changed = _encode(file, folder, encoder, todo, known.keys(), failed, progress, keeps)
    adapted = None
    if keeps:
        levels = wishes.levels or levels_of(encoder)
        allowed = wishes.adapt and not identity.by_labels
        adapted = settle(file, snapshots, Plan(levels, spread_of(encoder), wishes.levels is not None, allowed))
    counts = {why: count for why, count in again.items() if count}
    return Changes(added, changed, len(gone), unchanged, sorted(failed), counts, adapted)


def same_file(image: FoundImage, row: Known) -> bool:
    """Whether a file is the one that was looked at."""
    return (image.size, image.mtime_ns) == (row.size, row.mtime_ns)


def _why_again(row: Known, encoder: Identity, keeps: bool, renewed: bool) -> str | None:
    """Why an image has to be encoded again though its file has not changed."""
    if encoder.decoder is not None and row.reader not in (None, encoder.decoder):
        return "decoder"
    if row.error:
        return None
    if not row.has_code:
        return "network" if renewed else "waiting"
    if encoder.decoder is not None and row.reader is None:
        return "decoder"
    return "embeddings" if keeps and not row.has_embedding else None


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
                file.put(record if keeps else record._replace(embedding=None) for record in _coded(file, pending))
            pending.clear()

    try:
        paths = [join(folder, image.path) for image in todo]
        # A head that was fitted makes codes of embeddings, also where these are not kept.
        rows = stream_all(encoder, paths, embeddings=embeds(encoder)) if todo else ()
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
                if encoded.embedding is not None:
                    embedding = stored_embedding(encoded.embedding)
                counts[image.path in known] += 1
            digest = digest_of(join(folder, image.path)) if embedding is not None else None
            pending.append(
                Record(
                    image.path,
                    image.size,
                    mtime_ns,
                    code,
                    reason,
                    embedding,
                    digest,
                    identity.decoder,
                    None if encoded.look is None else (encoded.look.blocks.tobytes(), encoded.look.grey.tobytes()),
                    encoded.thumbnail,
                )
            )
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
