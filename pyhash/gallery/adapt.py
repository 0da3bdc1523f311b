"""How a gallery adapts to its images: a head fitted on their embeddings, neighbours, and codes made of both.

It happens at the end of a complete walk, from the rows that there are then, in one transaction: whether the walk was
done in one go or was interrupted, what comes out is the same. Heads are fitted on the wholes of images, and neighbours
are wholes: those of an image are what they would be without its parts. A row that was encoded since has a code by the
head there is, of its own embedding alone; so it can be found before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels
from ..errors import GalleryError
from ..heads import CollectionHead, Kind, adapt
from ..index import Index
from ..ranking import Neighbours, Quantized, average, neighbourhoods_help, neighbours
from .collection import Collection, directions, restored, taken, vectors_of, within
from .records import NEIGHBOURS, Embeddings, Lists, StoredHead
from .snapshot import Snapshot, Snapshots
from .store import GalleryFile

FEW_IMAGES = 100
"""From as many on a head is fitted on them."""
_GROWTH = 4
"""Times as many rows as the head was fitted on: it is fitted again."""
_EXACT_ROWS = 8192  # neighbours of fewer are found exactly
_CANDIDATES = 50
_QUERIES = 4096  # searched at once
_COPY = 0.97
"""Neighbours of this similarity are taken for copies, which do not count in averages: a copy's neighbourhood is then
that of the original."""

Ids = NDArray[np.int64]
Codes = NDArray[np.uint8]


class Adapted(NamedTuple):
    """What adapting did."""

    images: int
    """Whose codes were made anew."""
    refitted: bool
    """Whether a head was fitted."""


class _OvertakenError(Exception):
    """Another process changed the file while we computed."""


class Plan(NamedTuple):
    """How a head is to be fitted."""

    levels: Mapping[str, int]
    general: NDArray[np.float64] | None = None
    """Variances of embeddings over images in general, as `pyhash.heads.adapt` takes them."""
    at_once: bool = False
    """However few images there are."""
    allowed: bool = True
    """Whether one may be fitted."""


def settle(file: GalleryFile, snapshots: Snapshots, plan: Plan) -> Adapted | None:
    """Adapt a gallery whose walk is complete; None where there was nothing to do."""
    with file.reading():
        head, n_rows = file.vectors.head(), file.counts().images
        due = _is_due(plan, head, n_rows)
        if not due and (head is None or head.matrix is None or file.settled()):
            return None  # known without loading a row

    def change(now: Snapshot) -> _Change | None:
        if now.collection is None:
            return None
        if _is_due(plan, now.stored_head, len(now.images)) and (now.head is None or not now.head.supervised):
            stored = _embeddings(file, now)
            if np.ptp(stored.vectors, axis=0).any() or now.head is not None:
                return _refit(now, stored, plan)
        return None if now.head is None else _extend(now, now.head, now.collection)

    return _change(file, snapshots, change)


def refit(
    file: GalleryFile,
    snapshots: Snapshots,
    plan: Plan,
    labels: Callable[[Ids], Labelling] | None,
    kind: Kind | None,
    wished: Mapping[str, Any],
) -> Adapted:
    """Fit a head, on labels where there are some: `labels` gives those of rows. Fields of `Wishes` are noted.

    Raises
    ------
    GalleryError
        When there are no embeddings, or fewer than two.
    """

    def change(now: Snapshot) -> _Change:
        if now.collection is None or len(now.images) < 2:
            raise GalleryError(
                f"the gallery {file.path} has no embedding of every image, and a head is fitted on those: encode its "
                "images with an encoder that gives them (`pyhash index FOLDER`)"
            )
        stored = _embeddings(file, now)
        return _refit(now, stored, plan, None if labels is None else labels(now.images), kind)

    adapted = _change(file, snapshots, change, wished)
    assert adapted is not None
    return adapted


def _change(
    file: GalleryFile,
    snapshots: Snapshots,
    change: Callable[[Snapshot], _Change | None],
    wished: Mapping[str, Any] | None = None,
) -> Adapted | None:
    """Compute a change of the newest state without a lock, and write it, unless another was first: then once more."""
    while True:
        with contextlib.suppress(_OvertakenError):
            now, made = snapshots.ask(lambda now: (now, change(now)), newest=True)
            if made is None:
                return None
            with file.writing(None):
                if file.revision() != now.revision + 1:
                    raise _OvertakenError
                _write(file, made)
                if wished:
                    file.wish(file.wishes()._replace(**wished))
            snapshots.wait()
            if not len(made.ids):
                return None
            return Adapted(len(np.unique(now.parts.images_of(made.ids))), made.head is not None)


def _embeddings(file: GalleryFile, now: Snapshot) -> Embeddings:
    """The embeddings of a snapshot's rows."""
    with file.reading():
        if file.revision() != now.revision:
            raise _OvertakenError
        return file.vectors.embeddings()


class _Change(NamedTuple):
    head: CollectionHead | None
    ids: Ids
    codes: Codes
    lists: Lists
    why_own: str | None = None
    """Why the head makes no level of neighbourhoods."""


def _is_due(plan: Plan, head: StoredHead | None, n_rows: int) -> bool:
    """Whether a head is to be fitted, unless the one that there is knows labels."""
    if not plan.allowed:
        return False
    if head is None or head.matrix is None:
        return n_rows >= (2 if plan.at_once else FEW_IMAGES)
    return n_rows >= _GROWTH * head.fitted_on or head.levels != dict(plan.levels)


def _write(file: GalleryFile, change: _Change) -> None:
    stored = file.vectors.head()
    assert stored is not None
    number = stored.id
    if change.head is not None:
        levels = {name: int(bits) for name, bits in change.head.levels.items()}
        number = file.vectors.put_head(levels, change.head.to_bytes(), change.head.fitted_on)
        file.note_why_own(change.why_own)
    file.vectors.put_codes(number, change.ids, change.codes)
    file.vectors.put_neighbours(change.lists)
    file.note([*{*change.ids.tolist(), *change.lists.ids.tolist()}])
    file.note_settled()


# All anew


class Labelling(NamedTuple):
    """Labels of some of the rows."""

    known: NDArray[np.bool_]
    """Which rows have labels."""
    labels: dict[str, NDArray[Any]] | NDArray[Any]
    """Of those, by level, or the same for all levels."""


def _refit(
    now: Snapshot, stored: Embeddings, plan: Plan, labelling: Labelling | None = None, kind: Kind | None = None
) -> _Change:
    """Fit a head on the wholes of all images; find the neighbours of all rows by its codes, average, and code them."""
    parts = now.parts.are_in(stored.ids)
    wholes = _taken(stored, ~parts) if parts.any() else stored
    rows = restored(wholes.vectors, wholes.norms)
    if labelling is None:
        head = adapt(rows, plan.levels, head=kind, general=plan.general)
    else:
        some = rows[labelling.known]
        head = adapt(some, plan.levels, labels=labelling.labels, head=kind, general=plan.general)
    own = vectors_of(head, wholes.vectors, wholes.norms)["own"]
    find = _finder(own, head.codes(rows), head.levels)
    near = find(own, head.codes(rows), np.arange(len(rows)))
    around = average(own, near)
    first = next(iter(head.levels))
    why_not = None
    if len(head.levels) > 1 and head.made_of[first] == "own":
        measured = neighbourhoods_help(own)
        if measured:
            head = head.with_neighbourhoods(around, first, general=plan.general)
        elif np.isnan(measured.own):
            why_not = "the images are too few to say whether neighbourhoods help"
        else:
            why_not = (
                f"neighbourhoods gain too little: images find their kind with a precision of {measured.own:.3f} by "
                f"themselves, {measured.neighbourhood:.3f} by neighbourhoods"
            )
    codes, lists = [head.codes(rows, around)], [Lists(wholes.ids, named(near.ids, wholes.ids), near.weights)]
    of_parts = _taken(stored, parts)
    for start in range(0, len(of_parts.ids), _QUERIES):
        some_parts = _taken(of_parts, slice(start, start + _QUERIES))
        rows = restored(some_parts.vectors, some_parts.norms)
        own_parts = vectors_of(head, some_parts.vectors, some_parts.norms)["own"]
        images = np.searchsorted(wholes.ids, now.parts.images_of(some_parts.ids))
        found = find(own_parts, head.codes(rows), images)
        codes.append(head.codes(rows, average(own_parts, found, collection=own, among=near)))
        lists.append(Lists(some_parts.ids, named(found.ids, wholes.ids), found.weights))
    all_lists = Lists(*map(np.concatenate, zip(*lists, strict=True)))
    return _Change(head, all_lists.ids, np.concatenate(codes), all_lists, why_not)


def _taken(stored: Embeddings, which: NDArray[np.bool_] | slice) -> Embeddings:
    return Embeddings(stored.ids[which], stored.vectors[which], stored.norms[which])


def _finder(own: Quantized, codes: Codes, levels: Levels) -> Callable[[Quantized, Codes, Ids], Neighbours]:
    """Return what finds neighbours among rows, which are wholes, by embeddings and codes, each `without` one of them.

    Parts of an image are nobody's neighbours, and its whole is not theirs: they would stand for it many times.
    """
    n = len(own.vectors)
    if n <= _EXACT_ROWS:
        return lambda rows, _, without: without_copies(neighbours(rows, own, NEIGHBOURS, without=without))
    index = Index(levels=levels)
    index.add(codes)

    def find(rows: Quantized, codes: Codes, without: Ids) -> Neighbours:
        parts = []
        for start in range(0, len(codes), _QUERIES):
            some = slice(start, start + _QUERIES)
            found = index.search(codes[some], _CANDIDATES + 1).ids
            parts.append(neighbours(taken(rows, some), own, NEIGHBOURS, candidates=found, without=without[some]))
        return without_copies(Neighbours(*map(np.concatenate, zip(*parts, strict=True))))

    return find


def are_copies(near: Neighbours) -> NDArray[np.bool_]:
    """Which neighbours are so near that they must be copies."""
    copies: NDArray[np.bool_] = near.weights >= np.float32(_COPY**3)
    return copies


def without_copies(near: Neighbours) -> Neighbours:
    """Leave copies in the lists, with weight 0."""
    return near._replace(weights=np.where(are_copies(near), np.float32(0), near.weights))


def named(places: Ids, ids: Ids) -> Ids:
    """The ids of places, -1 where there is none."""
    return np.where(places < 0, -1, ids[places])


# What came since


def _extend(now: Snapshot, head: CollectionHead, collection: Collection) -> _Change:
    """Find the neighbours of rows that have none yet, or whose neighbours have changed; code those that it concerns."""
    ids = collection.unsettled()
    own = collection.take("own", ids)
    near = without_copies(find_near(now, collection, own, now.index.codes(ids), now.parts.images_of(ids)))
    lists = Lists(ids, near.ids, near.weights)
    settled, concerned = collection.listed_anew(lists)
    around = directions(settled.neighbourhoods(concerned))
    codes, anew = now.index.codes(concerned), head.codes(around, around)
    for level, made in head.made_of.items():
        if made == "neighbourhood":
            codes[:, head.levels.byte_range(level)] = anew[:, head.levels.byte_range(level)]
    return _Change(None, concerned, codes, lists)


def find_near(
    now: Snapshot, collection: Collection, own: Quantized, codes: Codes, without: Ids | None = None
) -> Neighbours:
    """The neighbours of own embeddings among wholes, found by codes, as ids; each `without` one, where given."""
    parts = []
    where = now.images if len(now.parts) else None
    level = own_level(now)
    for start in range(0, max(1, len(codes)), _QUERIES):
        some = slice(start, start + _QUERIES)
        found = now.index.search(codes[some], min(_CANDIDATES + 1, len(now.images)), level=level, where=where).ids
        if without is not None:
            found[found == without[some, None]] = -1
        pool = np.unique(found)
        pool = pool[pool >= 0]
        rows = collection.take("own", pool)
        near = neighbours(taken(own, some), rows, NEIGHBOURS, candidates=within(pool, found))
        parts.append(near._replace(ids=named(near.ids, pool)))
    return Neighbours(*map(np.concatenate, zip(*parts, strict=True)))


def own_level(now: Snapshot) -> str | None:
    """The level to find neighbours by: the largest made of own embeddings; None where there is no such level."""
    if now.head is None or "neighbourhood" not in now.head.made_of.values():
        return None
    own = [level for level, made in now.head.made_of.items() if made == "own"]
    return max(own, key=lambda level: now.index.levels[level], default=None)
