"""Bringing a gallery up to date with its folders: walk, encode, store."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import GalleryError
from ..heads import CollectionHead
from ..images import FoundImage, Views, readers
from ..ranking import quantize
from .adapt import Adapted, Plan, settle
from .asking import digest_of
from .boxes import Boxed
from .collection import restored
from .encoders import (
    GalleryEncoder,
    check_sees_parts,
    embeds,
    identity_of,
    is_plain,
    levels_of,
    spread_of,
    stream_all,
)
from .folders import Folders, Place, folder_of
from .kinship import Kinship
from .loading import drop
from .part_tables import lacks
from .recognising import (
    LOOK_AGAIN,
    Files,
    Recognised,
    away_mounts,
    files_of,
    inode_of,
    is_empty,
    is_gone,
    out_of_sight,
    recognise,
    to_digest,
    too_many,
)
from .records import Embedding, Identity, Known, PartRecord, Record, Wishes
from .snapshot import Snapshots
from .store import GalleryFile
from .walking import Seen, look
from .wished_parts import boxes_of, check_boxes, lost_boxes, note_parts, records_of, views_of

_COMMIT_ROWS = 64
_COMMIT_SECONDS = 2.0

T = TypeVar("T", Record, PartRecord)
Progress = Callable[[int, int], None]


class Failure(NamedTuple):
    """An image or a subfolder that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True)
class Changes:
    """What `Gallery.update` found; the images in the folders are added + changed + moved + unchanged + failed."""

    added: int
    changed: int
    removed: int
    unchanged: int
    failed: list[Failure]
    """Everything that cannot be searched, those known to be bad from an earlier run included."""
    again: dict[str, int] = field(default_factory=dict)
    """How many of the changed were encoded again though their files are the same, by what is another: the encoder's
    ``"network"``, the ``"decoder"`` that makes pixels of files, that their ``"embeddings"`` were not kept, or that they
    lacked ``"parts"`` that are wished."""
    adapted: Adapted | None = None
    """How the gallery adapted to its images; None where there was nothing to do."""
    moved: int = 0
    """Images that were moved or renamed: recognised by their content, and not encoded again."""
    names: int = 0
    """Other names (links, hard links, RAW files beside the JPEG or HEIC of the same name) of images of the folders;
    each image is one, whatever its names."""
    kept: int = 0
    """Images that can be searched though their files are out of sight: a disk is away, a folder cannot be listed."""
    withheld: int = 0
    """Images whose files are gone and that were not dropped: they are too many to be dropped without ``prune``."""
    excluded: int = 0
    """How many were dropped because they are left out now: by patterns, as too small, or as what systems make."""
    parts: int = 0
    """How many parts of images the gallery has now, besides the whole of each."""
    lost_boxes: int = 0
    """Boxes that were dropped because they do not lie in their images any more, which have become others."""
    passed_over: dict[str, int] = field(default_factory=dict, compare=False)
    """Files that are not read, by kind, as `pyhash.images.Walk` has them; like `links` no change, and not compared."""
    links: int = field(default=0, compare=False)
    """Links to folders, which were not followed."""
    away: dict[str, int] = field(default_factory=dict)
    """Folders of the gallery that are not there or are empty, while others were brought up to date: how many of the
    kept images lie in each."""


def update(
    file: GalleryFile,
    snapshots: Snapshots,
    folders: Folders,
    to_walk: Mapping[int, str],
    encoder: GalleryEncoder,
    progress: Progress | None,
    wished: Mapping[str, Any],
    *,
    proved: bool = False,
    prune: bool = False,
    boxes: Sequence[Boxed] | None = None,
) -> Changes:
    """Do what `Gallery.update` promises for some of the folders; fields of `Wishes` that are `wished` now are noted.

    `proved` says that the encoder makes the codes that there are, though its fingerprint is another. `boxes` take the
    place of those that their images have; none at all takes back those of all images.
    """
    identity = identity_of(encoder, folders)
    with file.reading():
        wishes, kin, stored = file.wishes()._replace(**wished), file.kinship(identity), file.identity() or identity
        known = file.known()
    found = look(file, to_walk, wishes)
    failed = [Failure(error.path, error.reason) for error in found.failed]
    can = embeds(encoder)
    if wishes.levels is not None and not (can and wishes.embeddings) and wishes.levels != stored.levels:
        raise GalleryError(
            f"the codes cannot have the levels {wishes.levels}: that takes a head fitted on embeddings, which the "
            f"encoder {encoder.name!r} does not give or which are not kept; leave levels (--bits) out"
        )
    files = files_of(found.images, folders, found.walked, known)
    digests = {image.path: digest_of(folders.join(image.path)) for image in to_digest(files, known)}
    if wishes.groups or boxes:
        check_sees_parts(encoder)
    given = boxes_of(boxes or [], folders, files, known)
    check_boxes(file, given, folders, files, known)
    renewed = not proved and kin in (Kinship.HEAD, Kinship.RENEWED)
    with file.writing(identity, rebuild=renewed, proved=proved):
        known = file.known()  # another process may have changed it meanwhile
        told = recognise(files, known, digests, found.walked, partial(_is_gone, folders, found, file.mounts()))
        _note(file, known, told, files, found)
        dropped = _drop(file, folders, known, told.unseen, found, files, prune)
        note_parts(file, wishes, given, boxes=boxes != [])
        groups = file.parts.groups()
        copies = file.ids_of(image.path for _, image in told.copies)
        for number in found.walked:
            if to_walk[number] not in dropped.away:
                file.note_place(number, Place.of(to_walk[number]))
        if wished:
            file.wish(wishes)
        forgot = not wishes.embeddings and file.forget_embeddings()
        if not wishes.thumbnails:
            file.forget_thumbnails()
        revision = file.revision()
    if forgot:
        drop(file)
    keeps = wishes.embeddings and can
    if is_plain(encoder) and not any(row.has_embedding for row in known.values()):
        # A gallery of codes alone, of a network of the user's own, goes on as it is.
        keeps = keeps and not any(row.has_code for row in known.values())
    todo, unchanged, moved = [*told.new, *told.changed], 0, 0
    lacking: set[str] = set()
    again = dict.fromkeys(("network", "decoder", "embeddings", "parts"), 0)
    as_before = [(image.path, image) for image in (*told.same, *told.touched)]
    for path, image in (*as_before, *told.moved):
        row = known[path]
        why = _why_again(row, identity, keeps, renewed)
        if why is None and row.has_code and lacks(groups.get(row.id, {}), wishes):
            why = "parts"
            lacking.add(image.path)
        if why is not None:
            todo.append(image)
            if why in again:
                again[why] += 1
        elif not row.has_code:
            failed.append(Failure(folders.join(image.path), str(row.error)))
        elif path == image.path:
            unchanged += 1
        else:
            moved += 1
    places = {image.path: place for place, image in enumerate(found.images)}
    before = {path for path, row in known.items() if not _waits_since_found(row)} | {i.path for _, i in told.moved}
    copied = [image for _, image in told.copies]
    incomplete = [
        image for image, number in zip(copied, copies, strict=True) if lacks(groups.get(number or 0, {}), wishes)
    ]
    todo += incomplete
    lacking.update(image.path for image in incomplete)
    todo.sort(key=lambda image: places[image.path])
    done = _encode(file, folders, encoder, todo, before, failed, progress, keeps, wishes, revision, lacking)
    added, changed, lost = done.added, done.changed, done.lost
    for image in copied:
        if image in incomplete:
            continue
        if image.path in before:
            changed += 1
        else:
            added += 1
    adapted = None
    if keeps:
        levels = wishes.levels or levels_of(encoder)
        allowed = wishes.adapt and not identity.by_labels
        adapted = settle(file, snapshots, Plan(levels, spread_of(encoder), wishes.levels is not None, allowed))
    with file.reading():
        counts = file.counts()
        n_parts = counts.rows - counts.images
    return Changes(
        added,
        changed,
        dropped.removed,
        unchanged + done.by_others,
        sorted(failed),
        {why: count for why, count in again.items() if count},
        adapted,
        moved,
        len(files.others),
        dropped.kept,
        dropped.withheld,
        dropped.excluded,
        n_parts,
        lost,
        found.passed_over,
        found.links,
        dropped.away,
    )


def _is_gone(folders: Folders, found: Seen, mounts: Sequence[str], key: str) -> bool:
    """Whether an image, which was not found, is there no more, as far as that can be seen.

    One in a folder that is empty may be on a disk that is away; but where its content is found elsewhere, it was moved.
    """
    if folder_of(key) not in found.walked:
        return is_gone(folders, key)
    return not (found.hides(key) or key.startswith(away_mounts(folders, mounts)))


class _Dropped(NamedTuple):
    removed: int
    kept: int
    withheld: int
    excluded: int
    away: dict[str, int]


def _drop(
    file: GalleryFile,
    folders: Folders,
    known: Mapping[str, Known],
    unseen: list[str],
    found: Seen,
    files: Files,
    prune: bool,
) -> _Dropped:
    """Drop images that are gone, as far as that is certain or wanted."""
    doubles = [known[path].id for path in files.others if path in known]
    out = {path for path in unseen if found.excludes(path)}
    unseen = [path for path in unseen if path not in out]
    away = {path for path in unseen if found.hides(path) and not (prune and os.path.islink(folders.join(path)))}
    mounts = sorted({*files.mounts, *file.mounts()})
    if not prune:
        away |= out_of_sight(unseen, folders, mounts)
    kept = [path for path in unseen if path in away]
    kept += [path for path in known if folder_of(path) in found.lost]
    file.note_mounts(
        mount
        for mount in mounts
        if mount in files.mounts or folder_of(mount) not in found.walked or any(p.startswith(mount) for p in kept)
    )
    # By whom a name of another folder is known is found there: it is not gone with the one that it had here.
    gone = [path for path in unseen if path not in away and not file.keep_elsewhere(known[path].id, found.walked)]
    searchable = Counter(folder_of(path) for path, row in known.items() if row.has_code)
    lost = Counter(folder_of(path) for path in gone if known[path].has_code)
    # Of each folder by itself: the others must not hide that all of one is gone.
    many = {folder for folder in lost if not prune and too_many(lost[folder], searchable[folder])}
    withheld = [path for path in gone if folder_of(path) in many]
    gone = [path for path in gone if folder_of(path) not in many]
    file.remove([*doubles, *(known[path].id for path in (*gone, *out))])
    removed = sum(not _waits_since_found(known[path]) for path in gone)
    excluded = sum(not _waits_since_found(known[path]) for path in out)
    return _Dropped(
        removed,
        sum(known[path].has_code for path in kept),
        len(withheld),
        excluded,
        _away(folders, known, kept, found),
    )


def _away(folders: Folders, known: Mapping[str, Known], kept: list[str], found: Seen) -> dict[str, int]:
    """Which folders are away as a whole, and how many of the images that are kept lie in each."""
    counts = Counter(folder_of(path) for path in kept if known[path].has_code)
    empty = {number for number in counts if is_empty(folders.roots[number])}
    return {folders.roots[number]: counts[number] for number in sorted({*found.lost} | empty)}


def _note(file: GalleryFile, known: Mapping[str, Known], told: Recognised, files: Files, found: Seen) -> None:
    """Store what is known of files without encoding them."""
    for path, image in told.moved:
        file.rename(known[path].id, image.path)
        file.touch(known[path].id, *_times(image))
    unnoted = (image for image in told.same if known[image.path].inode is None and inode_of(image) is not None)
    for image in (*told.touched, *unnoted):
        file.touch(known[image.path].id, *_times(image))
    contents = [(file.content(original), image) for original, image in told.copies]
    file.put(
        content._replace(
            path=image.path, size=image.size, mtime_ns=image.mtime_ns, ctime_ns=image.ctime_ns, inode=inode_of(image)
        )
        for content, image in contents
    )
    file.wait(image.path for image in told.new)
    file.name(files.others, found.walked)


def _times(image: FoundImage) -> tuple[int, int, int | None, int | None]:
    return image.size, image.mtime_ns, image.ctime_ns, inode_of(image)


def _waits_since_found(row: Known) -> bool:
    """Whether an image was found and nothing more."""
    return not row.has_code and row.error is None and (row.size, row.mtime_ns) == (0, 0)


def _why_again(row: Known, encoder: Identity, keeps: bool, renewed: bool) -> str | None:
    """Why an image has to be encoded again though its file has not changed."""
    if row.error:
        return None if row.reader == readers() else "waiting"  # it may be read by what is installed now
    if encoder.decoder is not None and row.reader not in (None, encoder.decoder):
        return "decoder"
    if not row.has_code:
        return "network" if renewed else "waiting"
    if encoder.decoder is not None and row.reader is None:
        return "decoder"
    return "embeddings" if keeps and not row.has_embedding else None


def _coded(file: GalleryFile, records: list[Record]) -> list[Record]:
    """Return what is stored, with codes by the head that was fitted on the collection, where there is one."""
    stored = file.vectors.head()
    listed = [found for record in records for found in (record.embedding, *(part.embedding for part in record.parts))]
    embeddings = [embedding for embedding in listed if embedding is not None]
    if stored is None or stored.matrix is None or not embeddings:
        return records
    head = CollectionHead.from_bytes(stored.matrix)
    vectors = np.stack([np.frombuffer(embedding.vector, np.int8) for embedding in embeddings])
    rows = restored(vectors, np.array([embedding.norm for embedding in embeddings], np.float32))
    codes = map(bytes, head.codes(rows))

    def coded(one: T) -> T:
        return one if one.embedding is None else one._replace(code=next(codes))

    return [coded(record)._replace(parts=[*map(coded, record.parts)]) for record in records]


def _without_embeddings(record: Record) -> Record:
    parts = [part._replace(embedding=None) for part in record.parts]
    return record._replace(embedding=None, parts=parts)


def stored_embedding(embedding: NDArray[np.float32]) -> Embedding:
    """Return an embedding as it is stored."""
    vectors, norms = quantize(embedding[None])
    return Embedding(vectors.tobytes(), float(norms[0]))


@dataclass
class _Encoded:
    """How many images were stored."""

    added: int = 0
    changed: int = 0
    by_others: int = 0
    """That another process encoded at the same time, and stored first."""
    lost: int = 0
    """Boxes that lie outside of their images."""


def _encode(
    file: GalleryFile,
    folders: Folders,
    encoder: GalleryEncoder,
    todo: list[FoundImage],
    known: Container[str],
    failed: list[Failure],
    progress: Progress | None,
    keeps: bool,
    wishes: Wishes,
    revision: int,
    lacking: set[str],
) -> _Encoded:
    """Encode and store, a transaction every few images; also those finished before an exception.

    What another process has stored since a revision, as it is here, is left to it. Those of the images that can be
    searched and are `lacking` parts are counted in the file until they are encoded.
    """
    if progress is not None:
        progress(0, len(todo))
    done = _Encoded()
    identity = identity_of(encoder, folders)
    pending: list[Record] = []
    committed = time.monotonic()

    def commit() -> None:
        if pending:
            with file.writing(identity):
                made = [record if keeps else _without_embeddings(record) for record in _coded(file, pending)]
                ours = [record for record in made if not file.has_since(revision, record)]
                file.put(ours)
                lacking.difference_update(record.path for record in pending)
                file.note_lacking(len(lacking))
            good = [record.path in known for record in ours if record.error is None]
            done.changed += sum(good)
            done.added += len(good) - sum(good)
            done.by_others += sum(record.error is None for record in made) - len(good)
            pending.clear()

    with file.reading():
        noted = file.lacking()
    if noted != len(lacking):
        with file.writing(None):
            file.note_lacking(len(lacking))
    try:
        paths = [folders.join(image.path) for image in todo]
        views = views_of(file, wishes, [image.path for image in todo])
        some = views if any(view != Views() for view in views) else ()
        # A head that was fitted makes codes of embeddings, also where these are not kept.
        rows = stream_all(encoder, paths, embeddings=embeds(encoder), views=some) if todo else ()
        for number, (image, view, encoded) in enumerate(zip(todo, views, rows, strict=True), 1):
            parts = records_of(encoded, wishes, stored_embedding)
            code = reason = embedding = None
            mtime_ns = image.mtime_ns
            if encoded.error is not None:
                path, reason = folders.join(image.path), encoded.error.reason
                failed.append(Failure(path, reason))
                if not _can_be_read(path):
                    mtime_ns = LOOK_AGAIN  # not the content's fault, and mending it changes no time
            else:
                code = np.asarray(encoded.code, np.uint8).tobytes()
                if encoded.embedding is not None:
                    embedding = stored_embedding(encoded.embedding)
                done.lost += lost_boxes(view, parts)
            digest = digest_of(folders.join(image.path))
            pending.append(
                Record(
                    image.path,
                    image.size,
                    mtime_ns,
                    code,
                    reason,
                    embedding,
                    digest,
                    identity.decoder if reason is None else readers(),
                    None if encoded.look is None else (encoded.look.blocks.tobytes(), encoded.look.grey.tobytes()),
                    encoded.thumbnail if wishes.thumbnails else None,
                    image.ctime_ns,
                    inode_of(image),
                    parts,
                )
            )
            if (
                sum(1 + len(record.parts) for record in pending) >= _COMMIT_ROWS
                or time.monotonic() - committed >= _COMMIT_SECONDS
            ):
                commit()
                committed = time.monotonic()
            if progress is not None:
                progress(number, len(todo))
    finally:
        commit()
    return done


def _can_be_read(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError:
        return False
    return True
